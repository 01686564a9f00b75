from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parties import dealt, together

from federation.channel import Solo
from federation.drift import (
    CUTS,
    GROUPS,
    feature_counts,
    feature_drift,
    popularity_drift,
    popularity_groups,
    stability_index,
)
from federation.errors import Refused
from recommenders.two_stage import STORE
from tasks.drift import drift


@settings(max_examples=25)
@given(st.lists(st.integers(0, 9), max_size=30), st.data())
def test_drift_is_that_of_the_pooled_events(items, data):
    items = np.array(items, np.int64)
    ever, recent = (np.array(data.draw(st.lists(st.integers(0, 50), min_size=10, max_size=10))) for _ in "er")
    pooled = popularity_drift(Solo(), items, np.minimum(recent, ever), ever)
    for found in together(
        lambda mine, channel: popularity_drift(channel, mine, np.minimum(recent, ever), ever),
        dealt(items, data),
    ):
        assert repr(found) == repr(pooled)  # NaN is written as NaN is
    assert pooled.events == len(items)
    if len(items):
        assert pooled.unseen == np.mean([ever[item] == 0 for item in items])


ROWS = st.lists(st.tuples(st.floats(-5, 5), st.just(np.nan) | st.integers(0, 1 << 30)), max_size=20)


@settings(max_examples=25)
@given(ROWS, ROWS, st.data())
def test_drift_of_features_is_that_of_the_pooled_rows(before, after, data):
    before, after = (np.array(rows, float).reshape(-1, 2) for rows in (before, after))
    parts = zip(dealt(before, data), dealt(after, data), strict=True)
    found = together(
        lambda mine, channel: feature_drift(channel, np.stack([*map(feature_counts, mine)])), [*parts]
    )
    columns = zip(before.T, after.T, strict=True)
    pooled = [stability_index(slow_counts(then), slow_counts(now)) for then, now in columns]
    assert [*map(repr, found)] == [repr(pooled)] * 3


def slow_counts(values):
    ends = [-np.inf, *CUTS, np.inf]
    cells = [sum(low <= value < high for value in values) for low, high in pairwise(ends)]
    return np.array([*cells, sum(np.isnan(values))])


def test_the_index_is_the_sum_of_jeffreys():
    before, after = np.array([79, 19]), np.array([39, 59])
    shares = (79.5 / 99, 19.5 / 99), (39.5 / 99, 59.5 / 99)
    expected = sum((q - p) * np.log(q / p) for p, q in zip(*shares, strict=True))
    assert stability_index(before, after) == pytest.approx(expected, rel=1e-12)
    assert stability_index(before, before) == 0
    assert stability_index(before, 2 * before) < 1e-4
    assert np.isnan(stability_index(before, np.zeros(2, np.int64)))


def test_groups_hold_equally_many_events():
    assert np.bincount(popularity_groups(np.full(100, 3))).tolist() == [10] * GROUPS
    assert popularity_groups(np.array([5, 90, 5])).tolist() == [9, 0, 9]
    assert popularity_groups(np.array([0, 0])).tolist() == [0, 0]


def test_a_turn_of_tastes_shows_and_an_item_of_long_ago_is_not_unseen():
    ever, recent, rng = np.array([9000, 900, 50, 0]), np.array([900, 90, 0, 0]), np.random.default_rng(0)
    calm = popularity_drift(Solo(), rng.choice(2, 500, p=(0.91, 0.09)), recent, ever)
    turned = popularity_drift(Solo(), np.repeat([0, 1, 2, 3], [100, 350, 40, 10]), recent, ever)
    assert calm.stability < 0.01
    assert turned.stability > 0.25
    assert (calm.unseen, turned.unseen) == (0, 0.02)


def test_an_item_outside_the_catalogue_is_refused():
    with pytest.raises(Refused, match="catalogue of 3 items"):
        popularity_drift(Solo(), np.array([3]), np.ones(3, np.int64), np.ones(3, np.int64))


def test_features_that_nothing_is_known_of_are_left_out():
    """As where the split has no cut in time: a NaN would make the run's JSON none."""
    counts, cells = np.ones(3, np.int64), np.zeros((2, len(STORE), len(CUTS) + 2), np.int64)
    assert drift(Solo(), np.arange(3), (counts, counts), cells).keys() == {"drift", "unseen"}
