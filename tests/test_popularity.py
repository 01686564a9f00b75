"""Recency popularity against counting by hand."""

import numpy as np

from recommenders.interactions import Interactions
from recommenders.popularity import DAY, blend, windowed_counts


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


def test_a_share_of_the_others():
    assert blend(np.array([1, 0]), np.array([5, 4]), 0.5).tolist() == [3.0, 2.0]
