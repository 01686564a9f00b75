"""Recency popularity against counting by hand."""

import numpy as np

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


def test_the_others_are_taken_to_gain_what_the_own_did():
    """Twice as much was had there as here, smoothing included: an item that gained 3 here gained 6 there."""
    others, before, now = np.array([[4, 8, 0]]), np.array([[1, 2, 0]]), np.array([[4, 1, 0]])
    assert moved(others, before, now).tolist() == [[10.0, 8.0, 0.0]]
    assert moved(others, before, before).tolist() == others.tolist()


def test_a_first_event_counts_beside_one_more_of_each_item():
    others, nothing = np.full((1, 100), 7), np.zeros((1, 100), np.int64)
    first = nothing.copy()
    first[0, 3] = 1
    assert moved(others, nothing, first)[0, 3] == 14
