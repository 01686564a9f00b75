"""How far events have moved since a model was trained, as sums of counts: equal to the pooled figures.

The population stability index compares two distributions over the same cells, sum (q - p) ln(q / p):
Jeffreys' divergence (1946), by convention small below 0.1 and large above 0.25.  Cells are the same for all:
items in groups of equally many events at the training, as sums that are opened anyway tell; features cut at
powers of four.  The sums disclose how many of the cohort's new events fall into each cell.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel
from federation.errors import Refused
from federation.exact_sum import INTEGERS

GROUPS = 10
CUTS = np.concatenate([-(4.0 ** np.arange(-5, 11))[::-1], [0.0], 4.0 ** np.arange(-5, 11)])
"""Where the cells of a feature end, whatever its scale."""
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class PopularityDrift:
    """Of `events` new events: the stability index of item popularity, and the share on unseen items.

    `stability` is over the events on items that were known at the training; NaN where there are none.
    """

    stability: float
    unseen: float
    events: int


def popularity_drift(
    channel: Channel, items: NDArray[Any], recent: Counts, ever: Counts, label: str = "drift"
) -> PopularityDrift:
    """Drift of the cohort's new events on `items` (catalogue positions), in one sum of `GROUPS` + 1 counts.

    `recent` and `ever` (items,) are how often each item of the catalogue occurred by the training, over the
    cohort: in the days that popularity counts, and at all.  Raises `Refused` for a position that is not in
    the catalogue.
    """
    items = np.asarray(items, np.int64)
    if items.size and not (items.min() >= 0 and items.max() < len(ever)):
        raise Refused(f"an item is not in the catalogue of {len(ever)} items")
    group = np.where(ever > 0, popularity_groups(recent), GROUPS)
    opened = channel.sum(f"{label}/groups", np.bincount(group[items], minlength=GROUPS + 1), INTEGERS)
    before = np.array([int(recent[group == number].sum()) for number in range(GROUPS)])
    events = int(opened.sum())
    unseen = int(opened[GROUPS]) / events if events else float("nan")
    return PopularityDrift(stability_index(before, opened[:GROUPS]), unseen, events)


def popularity_groups(counts: Counts) -> NDArray[np.int64]:
    """The group of each item, most popular first, of about equally many events."""
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    group = np.empty(len(counts), np.int64)
    group[order] = np.minimum(before * GROUPS // max(int(counts.sum()), 1), GROUPS - 1)
    return group


def feature_counts(columns: NDArray[np.float64]) -> Counts:
    """How many rows fall into each cell of each of d columns, (d, cells); the last is for missing values.

    A cell ends before its cut.
    """
    width = len(CUTS) + 2
    cells = np.where(np.isnan(columns), width - 1, np.searchsorted(CUTS, columns, side="right"))
    counts = [np.bincount(column, minlength=width) for column in cells.T]
    return np.array(counts, np.int64).reshape(-1, width)


def feature_drift(channel: Channel, counts: Counts, label: str = "drift") -> list[float]:
    """The stability index of each of d features, in one sum; NaN where it has no rows.

    `counts` (2, d, cells) are of the own rows at the training and now.
    """
    opened = channel.sum(f"{label}/features", counts.ravel(), INTEGERS).reshape(counts.shape)
    return [stability_index(before, after) for before, after in zip(*opened, strict=True)]


def stability_index(before: Counts, after: Counts) -> float:
    """The population stability index between two vectors of counts; NaN where one of them is empty.

    Half a count is added to every cell, so that an empty one gives no infinity.
    """
    if not (before.sum() and after.sum()):
        return float("nan")
    first, second = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (before, after))
    return float(np.sum((second - first) * np.log(second / first)))
