"""How far events have moved since a model was trained, as sums of counts: equal to the pooled figures.

The population stability index compares two distributions over the same cells, sum (q - p) ln(q / p):
Jeffreys' divergence (1946), by convention small below 0.1 and large above 0.25.  The cells are agreed from
what is opened anyway: items in groups of equally many events at the training, features cut at agreed
quantiles.  The sums disclose how many of the cohort's new events fall into each cell.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel
from federation.errors import Refused
from federation.exact_sum import INTEGERS
from federation.statistics import check_columns

GROUPS = 10
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


def feature_counts(
    channel: Channel, columns: NDArray[Any], cuts: NDArray[np.float64], label: str = "drift"
) -> Counts:
    """How many of the cohort's rows fall into each cell of each of d columns, (d, q + 2), in one sum.

    `cuts` (d, q) are agreed and rise; a cell ends before its cut, and the last cell is for missing values.
    """
    columns = check_columns(columns)
    if len(cuts) != columns.shape[1]:
        raise Refused(f"found cuts of {len(cuts)} columns, expected {columns.shape[1]}")
    width = cuts.shape[1] + 2
    mine = np.zeros((len(cuts), width), np.int64)
    for number, cut in enumerate(cuts):
        missing = np.isnan(columns[:, number])
        cells = np.where(missing, width - 1, np.searchsorted(cut, columns[:, number], side="right"))
        mine[number] = np.bincount(cells, minlength=width)
    return channel.sum(f"{label}/features", mine.ravel(), INTEGERS).reshape(mine.shape)


def stability_index(before: Counts, after: Counts) -> float:
    """The population stability index between two vectors of counts; NaN where one of them is empty.

    Half a count is added to every cell, so that an empty one gives no infinity.
    """
    if not (before.sum() and after.sum()):
        return float("nan")
    first, second = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (before, after))
    return float(np.sum((second - first) * np.log(second / first)))
