"""Exact sums of float64 values as vectors of integers that can be added.

A small superaccumulator (Neal 2015, "Fast exact summation using small and large superaccumulators"):
every float64 is an integer times 2^-1074, and a sum of them is a long integer, held in digits of 32 bits.
The digits of several participants are added word by word and carried afterwards, so the sum is exact,
correctly rounded, and the same for every way in which rows are dealt out.  What an opened sum of digits
tells is the exact total and, beyond it, the carries between the participants' digits.
"""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.errors import Refused
from federation.fixed_point import FixedPoint

LIMBS = 67
"""Digits of a sum: 2098 bits of float64, 32 for 2^32 rows, and the sign."""

INTEGERS = FixedPoint(width=64, fraction_bits=0, terms=1 << 30, signed=True)
"""The form of digits and of counts: below 2^33 each, for a billion participants."""

Limbs = NDArray[np.int64]

_DIGIT = 0xFFFFFFFF
_CHUNK = 1 << 16


def limbs(values: NDArray[Any]) -> Limbs:
    """The digits of the exact sum of `values` (n,), or of each column of (n, d).

    Returns (LIMBS,) or (d, LIMBS), lowest digit first, each in [0, 2^32) but the last, which has the sign.
    For up to 2^32 rows.  Raises `Refused` on NaN and infinity.
    """
    values = np.asarray(values, np.float64)
    columns = values.reshape(-1, 1) if values.ndim == 1 else values
    rows = max(256, _CHUNK // max(columns.shape[1], 1))
    digits = np.zeros((columns.shape[1], LIMBS), np.int64)
    for start in range(0, len(columns), rows):
        digits += _digits(np.ascontiguousarray(columns[start : start + rows]))
        _carry(digits)
    return digits[0] if values.ndim == 1 else digits


def exact(digits: Limbs) -> Fraction:
    """The number that `digits` (LIMBS,), or a sum of such vectors, stands for."""
    whole = sum(int(digit) << 32 * place for place, digit in enumerate(digits))
    return Fraction(whole, 1 << 1074)


def total(digits: Limbs) -> float:
    """`exact`, correctly rounded; raises `Refused` where it is beyond float64."""
    return rounded(exact(digits))


def rounded(number: Fraction) -> float:
    """The float64 next to `number`, ties to even; raises `Refused` where it is beyond float64."""
    try:
        return float(number)
    except OverflowError:
        raise Refused("the exact sum is beyond the range of float64") from None


def _digits(block: NDArray[np.float64]) -> Limbs:
    """The uncarried digits of each column; at most 2^16 rows, so that float64 counts them exactly."""
    if not np.isfinite(block).all():
        raise Refused("a sum takes finite numbers only, found NaN or infinity")
    mantissa, shift = _integers(block)
    within = shift & np.uint64(31)
    low = (mantissa & np.uint64(_DIGIT)) << within
    rest = (low >> np.uint64(32)) + ((mantissa >> np.uint64(32)) << within)
    width = block.shape[1]
    places = (shift >> np.uint64(5)).astype(np.intp) + np.arange(width) * LIMBS
    sums = np.zeros(width * LIMBS)
    for piece in (low & np.uint64(_DIGIT), rest & np.uint64(_DIGIT), rest >> np.uint64(32)):
        signed = np.copysign(piece.astype(np.float64), block)
        sums += np.bincount(places.ravel(), signed.ravel(), width * LIMBS)
        places += 1
    return sums.astype(np.int64).reshape(width, LIMBS)


def _integers(block: NDArray[np.float64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """`(m, s)` with |value| = m * 2^(s - 1074); subnormals share the exponent of the smallest normals."""
    bits = block.view(np.uint64)
    exponent = (bits >> np.uint64(52)) & np.uint64(0x7FF)
    hidden = (exponent > 0).astype(np.uint64) << np.uint64(52)
    return bits & np.uint64((1 << 52) - 1) | hidden, np.maximum(exponent, np.uint64(1)) - np.uint64(1)


def _carry(digits: Limbs) -> None:
    for place in range(LIMBS - 1):
        digits[:, place + 1] += digits[:, place] >> 32
        digits[:, place] &= _DIGIT
