"""Statistics of the consortium, obtained as sums only.

Means and variances come from exact sums (`federation.exact_sum`), the variance from a second sum over
centred values with the correction of Chan, Golub & LeVeque 1983, so they do not depend on who holds which
row, not in the last bit.  The sums disclose these figures for the consortium, none for a participant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel
from federation.errors import Refused
from federation.exact_sum import INTEGERS, LIMBS, Limbs, exact, limbs, rounded

LARGEST = 2.0**500
"""The largest magnitude whose squares can be summed in float64; about 3e150."""


@dataclass(frozen=True)
class Standardisation:
    """What brings d columns to mean 0 and variance 1: (d,) `mean`, (d,) `scale`, never zero."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    def apply(self, columns: NDArray[Any]) -> NDArray[np.float64]:
        """Standardised (n, d) `columns`; missing values stay missing."""
        scaled: NDArray[np.float64] = (np.asarray(columns, np.float64) - self.mean) / self.scale
        return scaled


@dataclass(frozen=True)
class Statistics:
    """Figures of d columns over the whole consortium, (d,) each.

    `variance` is that of the population (divided by `count`).  A column that nobody has a value of has
    mean and variance NaN.
    """

    count: NDArray[np.int64]
    missing: NDArray[np.int64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    @property
    def standardisation(self) -> Standardisation:
        """Constant columns keep scale 1, empty ones mean 0 and scale 1."""
        scale = np.where(self.variance > 0, np.sqrt(self.variance), 1.0)
        return Standardisation(np.where(self.count > 0, self.mean, 0.0), scale)


def column_statistics(channel: Channel, columns: NDArray[Any], names: Sequence[str] = ()) -> Statistics:
    """Count, mean and variance of (n, d) `columns` over the cohort, in two sums; NaN is a missing value.

    Means are the exact ones, correctly rounded.  Raises `Refused` for an infinite value or one beyond
    `LARGEST`, with the column's name (its index where `names` is empty).
    """
    columns = check_columns(columns, names)
    present = ~np.isnan(columns)
    count, missing, sums = _first(channel, columns, present)
    mean = np.array([rounded(exact(s) / int(n)) if n else np.nan for s, n in zip(sums, count, strict=True)])
    variance = _variance(channel, np.where(present, columns - mean, 0.0), count)
    return Statistics(count, missing, mean, variance)


def check_columns(columns: NDArray[Any], names: Sequence[str] = ()) -> NDArray[np.float64]:
    """`columns` as float64 (n, d); raises `Refused` for another shape, infinities and huge values."""
    columns = np.asarray(columns, np.float64)
    if columns.ndim != 2 or (names and len(names) != columns.shape[1]):
        raise Refused(f"expected {len(names) or 'd'} columns as (n, d), found shape {columns.shape}")
    huge = np.abs(columns) > LARGEST
    if huge.any():
        row, column = (int(place) for place in np.argwhere(huge)[0])
        name = repr(names[column]) if names else column
        kind = "infinite" if np.isinf(columns[row, column]) else f"beyond {LARGEST:.0e}"
        raise Refused(f"column {name}: the value in row {row} is {kind}")
    return columns


def _first(
    channel: Channel, columns: NDArray[np.float64], present: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Limbs]:
    width = columns.shape[1]
    count = present.sum(axis=0, dtype=np.int64)
    digits = limbs(np.where(present, columns, 0.0))
    mine = np.concatenate([count, len(columns) - count, digits.ravel()])
    opened = channel.sum("statistics/values", mine, INTEGERS)
    return opened[:width], opened[width : 2 * width], opened[2 * width :].reshape(width, LIMBS)


def _variance(
    channel: Channel, centred: NDArray[np.float64], count: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The mean square about the rounded mean, less the square of what its rounding left over."""
    mine = np.concatenate([limbs(centred), limbs(centred * centred)])
    first, second = channel.sum("statistics/squares", mine.ravel(), INTEGERS).reshape(2, -1, LIMBS)
    return np.array(
        [
            rounded(exact(s) / int(n) - (exact(r) / int(n)) ** 2) if n else np.nan
            for r, s, n in zip(first, second, count, strict=True)
        ]
    )
