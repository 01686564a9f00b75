"""Recency popularity: how often an item was had in the last days; the baseline that many models lose to."""

import numpy as np
from numpy.typing import NDArray

from recommenders.interactions import Interactions

DAY = 86_400_000_000


def windowed_counts(data: Interactions, until: int, days: int) -> NDArray[np.int64]:
    """Events per item of the catalogue in the `days` before `until` (microseconds), shape (items,)."""
    recent = (data.times >= until - days * DAY) & (data.times < until)
    return np.bincount(data.items[recent], minlength=data.item_count).astype(np.int64)


def blend(own: NDArray[np.int64], total: NDArray[np.int64], share: float) -> NDArray[np.float32]:
    """Own counts plus a share of the others', shape (items,)."""
    return (own + share * (total - own)).astype(np.float32)
