"""Recency popularity against counting by hand."""

import numpy as np
import pytest

from recommenders.interactions import Interactions
from recommenders.popularity import DAY, blend, left_of, moved, returning, windowed_counts

WHOLE = np.ones(2)


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
    """Twice as much of each was had there as here: 300 more here are 600 more there, 100 less 200 less."""
    others, before, now = (
        np.array([[200, 600, 1000]]),
        np.array([[100, 300, 500]]),
        np.array([[400, 200, 500]]),
    )
    assert moved(others, before, now, WHOLE[: len(others)])[0] == pytest.approx([800, 400, 1000], rel=1e-3)
    lately = np.array([[100, 300, 0]])
    assert moved(others, before, lately, WHOLE[:1])[0] == pytest.approx([200, 600, 0], abs=0.1)
    assert moved(others, before, before, WHOLE[:1]).tolist() == others.tolist()


def test_the_slope_is_that_of_a_ridge_in_each_window():
    """Of one event an item: least squares with a row of (sqrt(items), 0) beside the centred ones."""
    rng = np.random.default_rng(0)
    before = rng.poisson(20, (2, 50))
    others, now = 3 * before + rng.poisson(30, (2, 50)), before + rng.poisson(2, (2, 50))
    for window, found in enumerate(moved(others, before, now, WHOLE[: len(others)])):
        centred = before[window] - before[window].mean()
        slope = np.linalg.lstsq(np.append(centred, 50**0.5)[:, None], np.append(others[window], 0))[0][0]
        assert found == pytest.approx(others[window] + slope * (now - before)[window])


def test_few_own_events_do_not_speak_for_everybody():
    others = np.array([[10_000, *range(95, 0, -1)]])
    before = np.zeros_like(others)
    before[0, 0] = 1
    now = before.copy()
    now[0, 50] = 3
    assert moved(others, before, now, WHOLE[: len(others)]).argmax() == 0


def test_where_the_own_tell_nothing_of_the_others_these_stay():
    others, nothing = np.array([[7, 0, 9]]), np.zeros((1, 3), np.int64)
    for before in (nothing, nothing + 1, np.array([[1, 5, 0]])):
        assert moved(others, before, before + np.array([[0, 4, 1]]), np.zeros(1)).tolist() == others.tolist()


@pytest.mark.parametrize("agreed", [0.0, 0.5, 1.0])
def test_what_the_others_had_beyond_fades_as_far_as_the_own_explain_it(agreed):
    """What they explain of the others' tastes, not of their counts, of which chance is a good part."""
    rng = np.random.default_rng(1)
    common, here, there = rng.gamma(0.5, 1.0, (3, 200_000))
    own_tastes, their_tastes = (agreed**0.5 * common + (1 - agreed**0.5) * each for each in (here, there))
    before, others = rng.poisson(own_tastes)[None], rng.poisson(3 * their_tastes)[None]
    expected = np.corrcoef(before[0], their_tastes)[0, 1] ** 2
    slope = np.cov(before[0], others[0], ddof=0)[0, 1] / (before.var() + 1)
    assert np.array_equal(moved(others, before, before, WHOLE[:1]), others)
    for left in (0.25, 0.0):
        found = moved(others, before, before, np.array([left]))[0]
        beyond, rest = (each[found > 0] - slope * before[0, found > 0] for each in (others[0], found))
        assert rest @ beyond / (beyond @ beyond) == pytest.approx(1 - (1 - left) * expected, abs=0.02)


def test_who_has_few_events_keeps_what_the_others_had():
    rng = np.random.default_rng(3)
    tastes = rng.permutation(1 / np.arange(1, 3001))
    before, others, now = (rng.multinomial(n, tastes / tastes.sum())[None] for n in (20, 20_000, 20))
    found = moved(others, before, now, np.zeros(1))[0]
    assert len({*np.argsort(-found)[:10]} & {*np.argsort(-tastes)[:10]}) >= 9


def test_what_is_left_of_a_window():
    assert left_of((7, 30), 0).tolist() == [1, 1]
    assert left_of((8, 16), 12 * DAY).tolist() == [0, 0.25]
    assert left_of((7,), -DAY).tolist() == [1]
