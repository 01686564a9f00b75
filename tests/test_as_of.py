"""As-of joins, counts and means against loops over the definition, with ties and late corrections."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.as_of import as_of_join, times_of
from feature_store.errors import BadData
from feature_store.history import History, Times
from feature_store.importing import import_events
from feature_store.partitions import PART_SCHEMA, Store
from feature_store.sources import Columns, Source

KEYS = ("a", "b", "c")
Event = tuple[str, int, int, float]  # key, event time, delay until known, value
Row = tuple[str | None, int | None]

moments = st.integers(0, 8)  # few, so that ties abound
events_lists = st.lists(st.tuples(st.sampled_from(KEYS), moments, st.sampled_from([0, 0, 1, 5]), moments))
rows_lists = st.lists(
    st.tuples(st.sampled_from((*KEYS, "unknown", None)), st.one_of(st.none(), st.integers(-1, 15)))
)


def table(events: list[Event]) -> pa.Table:
    columns = {
        "user": [event[0] for event in events],
        "item": ["x"] * len(events),
        "event_time": [event[1] for event in events],
        "value": [float(event[3]) for event in events],
        "known_time": [event[1] + event[2] for event in events],
        "sequence": list(range(len(events))),
    }
    order = np.lexsort((columns["sequence"], columns["event_time"]))
    return pa.table(columns).cast(PART_SCHEMA).take(pa.array(order, pa.int64()))


def asked_table(rows: list[Row]) -> pa.Table:
    at = pa.array([row[1] for row in rows], pa.timestamp("us", "UTC"))
    return pa.table({"user": pa.array([row[0] for row in rows], pa.string()), "at": at})


def times(events: list[Event]) -> Times:
    columns = np.array([(event[1], event[1] + event[2]) for event in events], np.int64).reshape(-1, 2)
    return Times(columns[:, 0], columns[:, 1], np.arange(len(events)))


def codes(events: list[Event]) -> np.ndarray:
    return np.array([KEYS.index(event[0]) for event in events], np.int64)


def seen(events: list[Event], key: str | None, at: int | None, strictly: bool = False) -> list[int]:
    """The rows that have happened and are known, by the definition."""
    if at is None:
        return []
    until = at - 1 if strictly else at
    found = enumerate(events)
    return [row for row, (k, e, delay, _) in found if k == key and e <= until and e + delay <= until]


@given(events_lists, rows_lists, st.booleans(), st.sampled_from([None, 0, 2, 5]))
def test_join_equals_a_loop(
    events: list[Event], rows: list[Row], strictly: bool, max_age: int | None
) -> None:
    age = None if max_age is None else timedelta(microseconds=max_age)
    joined = as_of_join(asked_table(rows), table(events), "user", ["value"], "at", age, strictly)
    expected = []
    for key, at in rows:
        found = seen(events, key, at, strictly)
        last = max(
            found, key=lambda row: (events[row][1], events[row][1] + events[row][2], row), default=None
        )
        stale = last is not None and max_age is not None and at is not None and at - events[last][1] > max_age
        expected.append(None if last is None or stale else float(events[last][3]))
    assert joined["value"].to_pylist() == expected
    assert joined.select(["user", "at"]).equals(asked_table(rows))


@given(events_lists, rows_lists, st.sampled_from([None, 1, 3, 100]))
@settings(max_examples=200)
def test_counts_and_means_equal_a_loop(events: list[Event], rows: list[Row], window: int | None) -> None:
    """Here events of a key at one time are versions of one: the last of those known counts."""
    values = np.array([np.nan if event[3] == 0 else event[3] / 4 for event in events], np.float64)
    known = times(events)
    history = History(codes(events), len(KEYS), known, known.replaced_at(codes(events)), values)
    timed = [(key, at) for key, at in rows if at is not None]
    keys = np.array([KEYS.index(key) if key in KEYS else -1 for key, _ in timed], np.int64)
    asked = history.ask(keys, np.array([at for _, at in timed], np.int64))
    for row, (key, at) in enumerate(timed):
        versions = {}
        for found in sorted(seen(events, key, at), key=lambda f: (events[f][1] + events[f][2], f)):
            if window is None or at - events[found][1] < window:
                versions[events[found][1]] = found
        assert asked.counts(window)[row] == len(versions)
        there = [values[found] for found in versions.values() if not np.isnan(values[found])]
        mean = asked.means(window)[row]
        assert mean == sum(there) / len(there) if there else np.isnan(mean)
        oldest = asked.oldest()[row]
        first = min((events[found][1] for found in seen(events, key, at)), default=None)
        assert (None if oldest < 0 else events[oldest][1]) == first


@given(events_lists, rows_lists, events_lists)
def test_the_future_changes_nothing(events: list[Event], rows: list[Row], later: list[Event]) -> None:
    future = [(key, at + 16, delay, value) for key, at, delay, value in later]  # rows ask up to 15
    late = [(key, at, 16 + delay, value) for key, at, delay, value in later]
    joined = as_of_join(asked_table(rows), table(events), "user")
    assert as_of_join(asked_table(rows), table([*events, *future, *late]), "user").equals(joined)


def test_a_correction_wins_once_it_is_known() -> None:
    events: list[Event] = [("a", 10, 0, 1.0), ("a", 20, 0, 2.0), ("a", 10, 20, 3.0), ("a", 20, 5, 4.0)]
    asked = asked_table([("a", at) for at in (9, 10, 20, 24, 25, 30, 40)])
    assert as_of_join(asked, table(events), "user")["value"].to_pylist() == [
        None,
        1.0,
        2.0,
        2.0,
        4.0,
        4.0,
        4.0,
    ]
    history = History(
        codes(events), 3, times(events), times(events).replaced_at(codes(events)), np.arange(1.0, 5.0)
    )
    asked_at = np.array([9, 10, 20, 24, 25, 30, 40])
    found = history.ask(np.zeros(7, np.int64), asked_at)
    assert found.counts().tolist() == [0, 1, 2, 2, 2, 2, 2]
    np.testing.assert_array_equal(found.means(), [np.nan, 1.0, 1.5, 1.5, 2.5, 3.5, 3.5])


def test_of_equal_times_the_last_known_then_the_last_in_the_file_is_found() -> None:
    asked = asked_table([("a", 5), ("a", 7)])
    events: list[Event] = [("a", 5, 2, 1.0), ("a", 5, 0, 2.0), ("a", 5, 0, 3.0)]
    assert as_of_join(asked, table(events), "user")["value"].to_pylist() == [3.0, 1.0]


@given(st.permutations(range(40)), st.floats(1e-3, 1e12))
def test_means_do_not_depend_on_the_order_of_the_file(order: list[int], scale: float) -> None:
    values = scale * np.random.default_rng(0).standard_normal(40)
    at = np.arange(40) // 4

    def means(order: np.ndarray) -> np.ndarray:
        known = Times(at[order], at[order], np.arange(40))
        history = History(np.zeros(40, np.int64), 1, known, None, values[order])
        return history.ask(np.zeros(10, np.int64), np.arange(10)).means()

    found = means(np.array(order))
    np.testing.assert_array_equal(found, means(np.arange(40)))
    plain = [values[at <= moment].mean() for moment in range(10)]
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-13 * scale)


def test_no_events_and_no_rows() -> None:
    joined = as_of_join(asked_table([("a", 1), (None, None)]), table([]), "user")
    assert joined["value"].to_pylist() == [None, None]
    assert as_of_join(asked_table([]), table([("a", 1, 0, 1.0)]), "user").num_rows == 0
    history = History(np.zeros(0, np.int64), 0, times([]))
    assert history.ask(np.array([0, -1]), np.array([1, 1])).counts().tolist() == [0, 0]


def test_events_without_a_time_are_never_found_and_unknown_known_times_are_event_times() -> None:
    events = table([("a", 1, 0, 1.0), ("a", 2, 0, 2.0)])
    nulls = pa.nulls(2, PART_SCHEMA.field("known_time").type)
    events = events.set_column(4, "known_time", nulls)
    assert times_of(events).known.tolist() == [1, 2]
    timeless = pa.array([1, None], PART_SCHEMA.field("event_time").type)
    joined = as_of_join(asked_table([("a", 9)]), events.set_column(2, "event_time", timeless), "user")
    assert joined["value"].to_pylist() == [1.0]


def test_columns_are_named_where_they_are_missing() -> None:
    asked, events = asked_table([("a", 1)]), table([("a", 1, 0, 1.0)])
    with pytest.raises(BadData, match=r"asked rows: found columns .*expected also \['when'\]"):
        as_of_join(asked, events, "user", at="when")
    with pytest.raises(BadData, match=r"events: found columns .*expected also \['price'\]"):
        as_of_join(asked, events, "user", ["price"])
    with pytest.raises(BadData, match="found column 'value', which the join adds"):
        as_of_join(asked.append_column("value", asked["user"]), events, "user", ["value"])


def test_joins_events_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(
        "u,i,t,v,k\na,x,2016-01-01,1,2016-01-01\na,y,2016-02-01,2,2016-02-01\na,y,2016-02-01,5,2016-03-01\n"
    )
    columns = Columns(user="u", item="i", time="t", value="v", known_time="k")
    store = Store(tmp_path / "store")
    import_events(store, "shop", Source(path=str(tmp_path / "e.csv"), columns=columns))
    at = pa.array(np.array(["2015-12-31", "2016-01-01", "2016-02-10", "2016-03-01"], "M8[us]"))
    asked = pa.table({"user": ["a"] * 4, "at": at.cast(pa.timestamp("us", "UTC"))})
    joined = as_of_join(asked, store.events("shop"), "user", ["item", "value"])
    assert joined["item"].to_pylist() == [None, "x", "y", "y"]
    assert joined["value"].to_pylist() == [None, 1.0, 2.0, 5.0]
