"""As-of features against a loop over their descriptions; nothing of the moment itself or later leaks."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store import features
from feature_store.cleaning import DAY
from feature_store.features import FEATURES, AsOfFeatures, Events, events_of
from feature_store.history import Times
from feature_store.partitions import PART_SCHEMA

USERS, ITEMS = 3, 4
NAMES = [feature.name for feature in FEATURES]
Event = tuple[int, int, int, int, float]  # user, item, event day, days until known, value

events_lists = st.lists(
    st.tuples(
        st.integers(0, USERS - 1),
        st.integers(0, ITEMS - 1),
        st.sampled_from([0, 1, 2, 30, 31, 90, 91, 365, 366]),
        st.sampled_from([0, 0, 1, 40]),
        st.sampled_from([1.0, 2.5, 5.0, float("nan")]),
    ),
    max_size=25,
)
rows_lists = st.lists(
    st.tuples(st.integers(-1, USERS), st.integers(-1, ITEMS), st.integers(0, 460)), max_size=10
)


def arrays(events: list[Event]) -> Events:
    columns = np.array(events, np.float64).reshape(-1, 5)
    at = columns[:, 2].astype(np.int64) * DAY
    times = Times(at, at + columns[:, 3].astype(np.int64) * DAY, np.arange(len(events)))
    users, items = columns[:, 0].astype(np.int32), columns[:, 1].astype(np.int32)
    return Events(users, items, times, columns[:, 4], USERS, ITEMS)


def ask(events: list[Event], rows: list[tuple[int, int, int]], strictly: bool = True) -> np.ndarray:
    columns = np.array(rows, np.int64).reshape(-1, 3)
    at = columns[:, 2] * DAY
    return AsOfFeatures(arrays(events)).ask(columns[:, 0], columns[:, 1], at, strictly_before=strictly)


def slow(events: list[Event], user: int, item: int, at: int, strictly: bool) -> dict[str, float]:
    versions: dict[tuple[int, int, int], tuple[int, int, float]] = {}
    for row, (u, i, day, delay, value) in enumerate(events):
        known = day + delay
        version = known, row, value
        if (known < at if strictly else known <= at) and version[:2] >= versions.get((u, i, day), (-1, -1))[
            :2
        ]:
            versions[u, i, day] = version
    mine = {key: version[2] for key, version in versions.items() if key[0] == user}
    its = {key: version[2] for key, version in versions.items() if key[1] == item}

    def since(days: list[int]) -> float:
        return float(at - max(days)) if days else np.nan

    def mean(values: list[float]) -> float:
        there = [value for value in values if not np.isnan(value)]
        return sum(there) / len(there) if there else np.nan

    def within(window: int) -> int:
        return sum((at - day <= window) if strictly else (at - day < window) for _, _, day in its)

    return {
        "user_count": len(mine),
        "user_recency": since([day for _, _, day in mine]),
        "user_mean_value": mean([*mine.values()]),
        "item_count": len(its),
        "item_count_365d": within(365),
        "item_count_90d": within(90),
        "item_count_30d": within(30),
        "item_age": float(at - min(day for _, _, day in its)) if its else np.nan,
        "item_recency": since([day for _, _, day in its]),
        "item_mean_value": mean([*its.values()]),
        "user_item_count": sum(key[1] == item for key in mine),
    }


@given(events_lists, rows_lists, st.booleans())
@settings(max_examples=300)
def test_features_equal_a_loop(events: list[Event], rows: list[tuple[int, int, int]], strictly: bool) -> None:
    found = ask(events, rows, strictly)
    assert found.shape == (len(rows), len(FEATURES))
    for row, (user, item, at) in enumerate(rows):
        expected = slow(events, user, item, at, strictly)
        np.testing.assert_array_equal(found[row], [expected[name] for name in NAMES], str(rows[row]))


@pytest.mark.parametrize("wrong", [1e18, -1e300, 5e-324])
def test_a_value_beyond_all_others_changes_only_its_own_means(wrong: float) -> None:
    right: list[Event] = [(user, user, day, 0, 4.5 + day) for user in (0, 2) for day in range(50)]
    rows = [(0, 0, 60), (2, 2, 60), (1, 1, 60), (-1, -1, 60), (USERS, ITEMS, 60)]
    found = ask([*right, (1, 1, 10, 0, wrong)], rows)
    for name in ("user_mean_value", "item_mean_value"):
        np.testing.assert_array_equal(found[:, NAMES.index(name)], [29, 29, wrong, np.nan, np.nan])


def test_by_hand() -> None:
    events: list[Event] = [(0, 0, 10, 0, 4.0), (1, 0, 20, 0, 2.0), (0, 1, 100, 0, 5.0), (0, 0, 200, 0, 1.0)]
    found = dict(zip(NAMES, ask(events, [(0, 0, 105)])[0].tolist(), strict=True))
    assert found == {
        "user_count": 2,
        "user_recency": 5,
        "user_mean_value": 4.5,
        "item_count": 2,
        "item_count_365d": 2,
        "item_count_90d": 1,
        "item_count_30d": 0,
        "item_age": 95,
        "item_recency": 85,
        "item_mean_value": 3,
        "user_item_count": 1,
    }


@given(events_lists, rows_lists, events_lists)
def test_neither_the_moment_itself_nor_the_future_leaks(
    events: list[Event], rows: list[tuple[int, int, int]], later: list[Event]
) -> None:
    rows = [(user, item, 500) for user, item, _ in rows]
    future: list[Event] = [(user, item, 500 + day, delay, value) for user, item, day, delay, value in later]
    late: list[Event] = [
        (user, item, day, 500 - day + delay, value) for user, item, day, delay, value in later
    ]
    np.testing.assert_array_equal(ask([*events, *future, *late], rows), ask(events, rows))


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, high, 300) for high in (USERS, ITEMS, 400, 3))
    events: list[Event] = [(*map(int, each), 1.0) for each in zip(*draws, strict=True)]
    rows = [
        (int(u), int(i), int(t))
        for u, i, t in zip(*(rng.integers(0, h, 50) for h in (3, 4, 400)), strict=True)
    ]
    whole = ask(events, rows)
    monkeypatch.setattr(features, "BLOCK", 7)
    np.testing.assert_array_equal(ask(events, rows), whole)


def test_takes_events_of_the_store() -> None:
    day = datetime(2020, 1, 1, tzinfo=UTC)
    rows = {
        "user": ["a", "b", "a", "a"],
        "item": ["x", "x", "gone", "y"],
        "event_time": [day, day, day, None],
        "value": [1.0, None, 2.0, 3.0],
        "known_time": [None, day, day, day],
        "sequence": [0, 1, 2, 3],
    }
    table = pa.table(rows, schema=PART_SCHEMA)
    users, items = np.array([0, 1, 0, 0], np.int32), np.array([0, 0, -1, 1], np.int32)
    events = events_of(table, users, items, item_count=2)
    assert events.users.tolist() == [0, 1]
    assert (events.user_count, events.item_count) == (2, 2)
    moment = int(np.datetime64("2020-01-02", "us").astype(np.int64))
    found = dict(
        zip(NAMES, AsOfFeatures(events).ask(users[:1], items[:1], np.array([moment]))[0], strict=True)
    )
    assert (found["user_count"], found["item_count"], found["item_mean_value"], found["item_age"]) == (
        1,
        2,
        1,
        1,
    )


def test_every_feature_has_a_name_a_unit_and_a_description() -> None:
    assert len(set(NAMES)) == len(FEATURES) >= 10
    assert {feature.unit for feature in FEATURES} == {"events", "days", "value"}
    assert all(feature.description for feature in FEATURES)
