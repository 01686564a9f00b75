"""Histories as they might have been are parts of those that were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommenders.augmentation import AugmentConfig, augmented, masked

STEPS = 9
SIZES = st.lists(st.integers(0, STEPS), min_size=1, max_size=6)
SHARES = st.sampled_from([0.1, 0.3, 0.5, 0.9])


def histories(sizes):
    """Of each size one, whose events are numbered through."""
    found, first = np.full((len(sizes), STEPS), -1), 0
    for row, size in zip(found, sizes, strict=True):
        row[:size] = np.arange(first, first + size)
        first += size
    return found


def told(row):
    """The events of a history, which are all before what is none."""
    size = int((row >= 0).sum())
    assert (row[:size] >= 0).all()
    return row[:size].tolist()


@given(SIZES, SHARES, st.integers(0, 2**32 - 1))
def test_a_crop_is_a_stretch_of_the_history(sizes, share, seed):
    events = histories(sizes)
    for before, after in zip(
        events, augmented(events, AugmentConfig(crop=share), np.random.default_rng(seed)), strict=True
    ):
        old, new = told(before), told(after)
        assert len(new) == max(min(2, len(old)), int(np.ceil((1 - share) * len(old))))
        assert new == old[old.index(new[0]) :][: len(new)] if new else not old


@given(SIZES, st.sampled_from([0.3, 0.5, 1.0]), st.integers(0, 2**32 - 1))
def test_reordering_shuffles_a_stretch_and_leaves_the_rest(sizes, share, seed):
    events = histories(sizes)
    for before, after in zip(
        events, augmented(events, AugmentConfig(reorder=share), np.random.default_rng(seed)), strict=True
    ):
        old, new = told(before), told(after)
        assert sorted(new) == old
        moved = np.flatnonzero(np.array(old) != np.array(new))
        assert len(moved) == 0 or moved[-1] - moved[0] < int(share * len(old))


def test_every_stretch_and_order_comes_up():
    events, random = histories([4]), np.random.default_rng(0)
    cropped = {tuple(augmented(events, AugmentConfig(crop=0.5), random)[0]) for _ in range(200)}
    assert {each[:2] for each in cropped} == {(0, 1), (1, 2), (2, 3)}
    orders = {tuple(augmented(events, AugmentConfig(reorder=1.0), random)[0, :4]) for _ in range(2000)}
    assert len(orders) == 24


def test_a_share_of_the_events_is_read_as_nothing():
    events = np.arange(40_000).reshape(400, 100)
    found = masked(events, 0.2, np.random.default_rng(0))
    assert set(np.unique(found[found != events])) == {-1}
    assert (found < 0).mean() == pytest.approx(0.2, abs=0.01)
    assert masked(events, 0.0, np.random.default_rng(0)) is events


def test_nothing_is_changed_by_default():
    events = histories([3, 5])
    assert np.array_equal(augmented(events, AugmentConfig(), np.random.default_rng(0)), events)
