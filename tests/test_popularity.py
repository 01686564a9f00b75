"""Recency popularity against counting by hand."""

import numpy as np
import pytest

from recommenders.interactions import Interactions
from recommenders.popularity import DAY, blend, moved, returning, windowed_counts


def test_only_the_days_before_count():
    days = np.array([0, 5, 9, 10, 3])
    data = Interactions(
        users=np.zeros(5, np.int32),
        items=np.array([0, 1, 1, 2, 2], np.int32),
        times=days * DAY,
        user_count=1,
        item_count=4,
    )
    assert windowed_counts(data, 10 * DAY, 5).tolist() == [0, 2, 0, 0]
    assert windowed_counts(data, 10 * DAY, 100).tolist() == [1, 2, 1, 0]


def test_who_came_back_had_something_a_day_before():
    r = np.random.default_rng(2)
    users, times = r.integers(0, 9, 60).astype(np.int32), np.sort(r.integers(0, 20 * DAY, 60))
    times[:3] = times[3]
    data = Interactions(users, r.integers(0, 5, 60).astype(np.int32), times, 9, 5)
    expected = [
        place
        for place in range(60)
        if any(users[other] == users[place] and times[other] <= times[place] - DAY for other in range(60))
    ]
    found = returning(data)
    assert 0 < len(expected) < 60
    assert found.times.tolist() == times[expected].tolist()
    assert found.items.tolist() == data.items[expected].tolist()


def test_a_share_of_the_others():
    assert blend(np.array([1, 0]), np.array([5, 4]), 0.5).tolist() == [3.0, 2.0]


def test_the_others_are_taken_to_move_as_the_own_did():
    """Twice as much of each was had there as here: 3 more here are 6 more there, one less two less."""
    others, before, now = np.array([[2, 6, 10]]), np.array([[1, 3, 5]]), np.array([[4, 2, 5]])
    assert moved(others, before, now).tolist() == [[8.0, 4.0, 10.0]]
    assert moved(others, before, np.array([[1, 3, 0]])).tolist() == [[2.0, 6.0, 0.0]]
    assert moved(others, before, before).tolist() == others.tolist()


def test_the_slope_is_that_of_least_squares_in_each_window():
    rng = np.random.default_rng(0)
    before = rng.poisson(20, (2, 50))
    others, now = 3 * before + rng.poisson(30, (2, 50)), before + rng.poisson(2, (2, 50))
    for window, found in enumerate(moved(others, before, now)):
        slope = np.polyfit(before[window], others[window], 1)[0]
        assert found == pytest.approx(others[window] + slope * (now - before)[window])


def test_where_the_own_tell_nothing_of_the_others_these_stay():
    others, nothing = np.array([[7, 0, 9]]), np.zeros((1, 3), np.int64)
    for before in (nothing, nothing + 1, np.array([[1, 5, 0]])):
        assert moved(others, before, before + np.array([[0, 4, 1]])).tolist() == others.tolist()
