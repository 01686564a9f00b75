"""Recency popularity: how often an item was had in the last days; the baseline that many models lose to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommenders.interactions import Interactions

DAY = 86_400_000_000


def windowed_counts(data: Interactions, until: int, days: int) -> NDArray[np.int64]:
    """Events per item of the catalogue in the `days` before `until` (microseconds), shape (items,)."""
    recent = (data.times >= until - days * DAY) & (data.times < until)
    return np.bincount(data.items[recent], minlength=data.item_count).astype(np.int64)


def returning(data: Interactions) -> Interactions:
    """The events a day or more after their user's first: those of users who came back, as in queries."""
    first = np.full(data.user_count, np.iinfo(np.int64).max)
    np.minimum.at(first, data.users, data.times)
    return data.where(data.times - DAY >= first[data.users])


def widened(counts: NDArray[Any], items: int) -> NDArray[Any]:
    """Counts (windows, catalogue) of a catalogue that now has `items`: none of those that came to its end."""
    return np.pad(counts, ((0, 0), (0, max(0, items - counts.shape[1]))))


def blend(own: NDArray[np.int64], total: NDArray[Any], share: float) -> NDArray[np.float32]:
    """Own counts plus a share of the others', shape (items,)."""
    return (own + share * (total - own)).astype(np.float32)


def moved(
    others: NDArray[np.int64], before: NDArray[np.int64], now: NDArray[np.int64], left: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What the others' counts, as of when the own were `before`, may be `now`: (windows, items) each.

    What an item has gained or lost at home it has elsewhere, too, times the slope of the others' counts over
    the own at the training: 0 where what is had here tells nothing of what is had there.  A ridge of one
    event an item keeps a newcomer's few events from speaking for everybody.  What the others had beyond that
    fades with what is `left` (windows,) of each window, as far as the own explain the others' (r squared).
    """
    slope, explained = _regression(before.astype(np.float64), others.astype(np.float64))
    faded = (1 - left[:, None]) * explained
    found: NDArray[np.float64] = np.maximum(
        others + slope * (now - before) - faded * (others - slope * before), 0.0
    )
    return found


def _regression(
    own: NDArray[np.float64], others: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The slope of the others' counts over the own, and what these explain (r squared), (windows, 1) each.

    Counts vary by chance, too, by as much as their mean: nobody can explain that of the others' (Spearman
    1904, correction for attenuation). That of the own stays: by few events little is explained.
    """
    centred, items = own - own.mean(axis=1, keepdims=True), own.shape[1]
    spread = (centred**2).sum(axis=1, keepdims=True)
    product = np.maximum((centred * others).sum(axis=1, keepdims=True), 0.0)
    tastes = others.var(axis=1, keepdims=True) * items - others.sum(axis=1, keepdims=True)
    most = spread * np.maximum(tastes, 0.0)
    return product / (spread + items), np.minimum(product**2, most) / np.maximum(most, 1.0)


def left_of(windows: Sequence[int], passed: int) -> NDArray[np.float64]:
    """How much of each of the `windows`, in days, is left after `passed` microseconds, (windows,)."""
    found: NDArray[np.float64] = np.clip(1 - passed / (np.array(windows) * DAY), 0.0, 1.0)
    return found
