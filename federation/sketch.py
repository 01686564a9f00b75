"""Quantiles of the consortium from an additive sketch: histograms over float64 bit prefixes, refined.

The bits of a float64 order like the number once the sign is folded in, so the first bits of it are the
cell of a histogram whose cells are known to all without looking at data (HdrHistogram cuts the same way).
The first sum counts sign and exponent; each further sum splits, for all columns together, only the cells
in which a wanted quantile lies (a multiway search as in Saukas & Song 1999).

Disclosed: the opened counts of these cells over the consortium.  A count of 1 says that somebody has a
value in that cell, which is 2^(12 - bits) wide relative to the value; `tolerance` and fewer `bits` keep
cells wide.  A representative is the number of the cell with the shortest mantissa: a function of the cell,
and a value of somebody's only where that value is as round.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel
from federation.errors import Refused
from federation.exact_sum import INTEGERS
from federation.statistics import check_columns

TOP_BITS = 12
"""Sign and exponent."""

CELLS = 1 << 18
"""Most counts in a refining sum, unless halving every cell already takes more: 2 MiB of words."""

STEP = 8
"""Most bits by which one sum refines."""

Keys = NDArray[np.uint64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of d columns over the consortium: q probabilities each.

    `values` (d, q) are representatives, at most a relative 2^(12 - bits) nearer to zero than the quantile
    itself where no cell is wider; NaN for a column without values.  `rank_error` (d,) is the largest share
    of a column's values in a final cell: no more of the values lie between quantile and representative.
    `count` and `missing` (d,) are rows with and without a value.
    """

    values: NDArray[np.float64]
    rank_error: NDArray[np.float64]
    count: Counts
    missing: Counts


@dataclass(frozen=True)
class _Cells:
    """For each column and probability, (d, q), the cell that holds the wanted rank.

    `low` is its lowest key, `depth` the bits that its keys share, `below` the values in cells below it
    and `size` the values in it.
    """

    low: Keys
    depth: Counts
    below: Counts
    size: Counts


def quantiles(
    channel: Channel,
    columns: NDArray[Any],
    probabilities: Sequence[float] | NDArray[np.float64],
    bits: int = 32,
    tolerance: float = 0.0,
    names: Sequence[str] = (),
    label: str = "quantiles",
) -> Quantiles:
    """The quantiles of (n, d) `columns`, or of one column (n,), over the cohort; NaN is a missing value.

    The p-quantile is the smallest value that at least a share p of the values does not exceed.  Cells
    with at most a share `tolerance` of their column's values are not split further.  With the default bits
    4 sums, 6 for 255 quantiles of 50 columns, each of one vector for all columns: 4097 words a column,
    then at most `CELLS`.  Needs memory for one more copy of the columns.  Raises `Refused` for infinite
    values and probabilities outside [0, 1].
    """
    wanted = np.asarray(probabilities, np.float64)
    if not (TOP_BITS <= bits <= 64 and wanted.ndim == 1 and bool(np.all((wanted >= 0) & (wanted <= 1)))):
        raise Refused(f"expected probabilities in [0, 1] and 12 to 64 bits, found {wanted} and {bits}")
    columns = np.asarray(columns, np.float64)
    columns = check_columns(columns.reshape(-1, 1) if columns.ndim == 1 else columns, names)
    keys = [_sorted_keys(column) for column in columns.T]
    count, missing, cells, ranks = _first(channel, keys, len(columns), wanted, label)
    enough = np.maximum(tolerance * count, 0)[:, None]
    while (active := (cells.depth < bits) & (cells.size > enough)).any():
        cells = _refine(channel, keys, cells, active, ranks, bits, label)
    share = cells.size.max(axis=1, initial=0) / np.maximum(count, 1)
    values = np.where(count[:, None] > 0, _representatives(cells), np.nan)
    return Quantiles(values, share, count, missing)


def _sorted_keys(column: NDArray[np.float64]) -> Keys:
    """The values' bits as integers of the same order; zero has one sign."""
    bits = (column[~np.isnan(column)] + 0.0).view(np.uint64)
    sign = np.uint64(1 << 63)
    keys = np.where(bits & sign, ~bits, bits | sign)
    keys.sort()
    return keys


def _representatives(cells: _Cells) -> NDArray[np.float64]:
    """The edge of each cell that is nearer to zero, where the mantissa ends in zeros."""
    sign = np.uint64(1 << 63)
    top = cells.low | ((np.uint64(1) << (64 - cells.depth).astype(np.uint64)) - np.uint64(1))
    bits: Keys = np.where(cells.low & sign, cells.low ^ sign, ~top)
    return bits.view(np.float64) + 0.0


def _first(
    channel: Channel, keys: list[Keys], rows: int, wanted: NDArray[np.float64], label: str
) -> tuple[Counts, Counts, _Cells, Counts]:
    """The sum over sign and exponent: counts, missing, the cells of the wanted ranks, and these ranks."""
    owners, lows = np.arange(len(keys)), np.zeros(len(keys), np.uint64)
    mine = _histogram(keys, owners, lows, 0, TOP_BITS)
    absent = [rows - column.size for column in keys]
    opened = channel.sum(f"{label}/0", np.concatenate([absent, mine.ravel()]).astype(np.int64), INTEGERS)
    missing, counts = opened[: len(keys)], opened[len(keys) :].reshape(mine.shape)
    count = counts.sum(axis=1)
    ranks = np.clip(np.ceil(wanted * count[:, None]).astype(np.int64), 1, np.maximum(count, 1)[:, None])
    whole = np.zeros(ranks.shape, np.int64)
    start = _Cells(whole.astype(np.uint64), whole, whole, whole)
    which = np.repeat(owners, wanted.size)
    return count, missing, _descend(start, whole == 0, which, counts, ranks, TOP_BITS), ranks


def _refine(
    channel: Channel,
    keys: list[Keys],
    cells: _Cells,
    active: NDArray[np.bool_],
    ranks: Counts,
    bits: int,
    label: str,
) -> _Cells:
    """`cells` with the active ones, which are all equally deep, split by one more sum."""
    owner, _ = np.nonzero(active)
    pairs = np.stack([owner.astype(np.uint64), cells.low[active]], axis=1)
    unique, which = np.unique(pairs, axis=0, return_inverse=True)
    depth = int(cells.depth[active][0])
    step = min(STEP, bits - depth, max(1, (CELLS // len(unique)).bit_length() - 1))
    mine = _histogram(keys, unique[:, 0].astype(np.intp), unique[:, 1], depth, step)
    opened = channel.sum(f"{label}/{depth}", mine.ravel(), INTEGERS).reshape(mine.shape)
    return _descend(cells, active, which.ravel(), opened, ranks, step)


def _histogram(keys: list[Keys], owners: NDArray[np.intp], lows: Keys, depth: int, step: int) -> Counts:
    """For each cell (column, lowest key, `depth` bits) the counts of its 2^step parts."""
    width = np.uint64(64 - depth - step)
    parts = np.arange(1 << step, dtype=np.uint64) << width
    counts = np.empty((len(lows), 1 << step), np.int64)
    for owner in np.unique(owners):
        edges = lows[owners == owner, None] | parts
        below = np.searchsorted(keys[owner], edges)
        last = edges[:, -1:] | ((np.uint64(1) << width) - np.uint64(1))
        end = np.searchsorted(keys[owner], last, side="right")
        counts[owners == owner] = np.diff(below, append=end)
    return counts


def _descend(
    cells: _Cells,
    active: NDArray[np.bool_],
    which: NDArray[np.intp],
    opened: Counts,
    ranks: Counts,
    step: int,
) -> _Cells:
    """Each active cell's part that holds its rank; `opened[which]` are the counts of the parts."""
    sums = np.concatenate([[0], np.cumsum(opened)])
    start = which << step
    sought = sums[start] + ranks[active] - cells.below[active]
    part = np.clip(np.searchsorted(sums[1:], sought) - start, 0, (1 << step) - 1)
    depth = cells.depth[active] + step
    offset = part.astype(np.uint64) << (64 - depth).astype(np.uint64)
    return _Cells(
        low=_put(cells.low, active, cells.low[active] | offset),
        depth=_put(cells.depth, active, depth),
        below=_put(cells.below, active, cells.below[active] + sums[start + part] - sums[start]),
        size=_put(cells.size, active, opened.ravel()[start + part]),
    )


def _put(old: NDArray[Any], where: NDArray[np.bool_], new: NDArray[Any]) -> NDArray[Any]:
    result = old.copy()
    result[where] = new
    return result
