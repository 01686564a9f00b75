"""The objectives' derivatives in machine code, whose bits are the same on every processor.

The last bit of exp and log2 of the C library depends on its version and on the processor (glibc multiplies
and adds at once where there is an instruction for it).  Those here are made of +, -, x and / only: IEEE 754
says each bit of them, and numba never fuses two.
"""

import math

import numpy as np
from numpy.typing import NDArray

from recommenders.compiled import compiled

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LN_2 = 0.6931471805599453
_HIGH, _LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
"""ln 2 in two parts: the first, times any exponent of a double, is exact (fdlibm, e_exp.c)."""
_LOG2_E = 1.4426950408889634
_EXP = tuple(1.0 / math.factorial(power) for power in range(13, 1, -1))
"""Taylor's coefficients from the highest power down to the second."""
_LOG2 = tuple(2.0 * _LOG2_E / power for power in range(21, 0, -2))
"""Those of log2((1 + s) / (1 - s)): of odd powers only."""


@compiled
def exp(x: float) -> float:
    """e^x, less than one unit of its last place off; that of -708 below it, of 709 above.

    With x = n ln 2 + r it is 2^n, made of its bits, times e^r, where |r| <= ln 2 / 2.
    """
    within = min(max(x, -708.0), 709.0)
    n = np.rint(within * _LOG2_E)
    r = within - n * _HIGH - n * _LOW
    series = 0.0
    for coefficient in _EXP:
        series = series * r + coefficient
    found: float = (1.0 + (r + r * r * series)) * np.int64((np.int64(n) + 1023) << 52).view(np.float64)
    return found


@compiled
def log2(x: float) -> float:
    """The logarithm of x > 0 to base 2, less than three units of its last place off."""
    m, exponent = math.frexp(x)
    if m * m < 0.5:
        m, exponent = 2.0 * m, exponent - 1
    s, series = (m - 1.0) / (m + 1.0), 0.0
    for coefficient in _LOG2:
        series = series * (s * s) + coefficient
    return exponent + s * series


@compiled
def binary(scores: Floats, labels: Floats, factor: float, gradient: Floats, hessian: Floats) -> None:
    """The logarithmic loss of labels 0 and 1 under the logistic function of the scores."""
    for row in range(len(scores)):
        p = 1.0 / (1.0 + exp(-scores[row]))
        gradient[row] = (p - labels[row]) * factor
        hessian[row] = p * (1.0 - p) * factor


@compiled
def squared(scores: Floats, labels: Floats, factor: float, gradient: Floats, hessian: Floats) -> None:
    """Half the squared error."""
    for row in range(len(scores)):
        gradient[row] = (scores[row] - labels[row]) * factor
        hessian[row] = 1.0


@compiled
def poisson(scores: Floats, labels: Floats, factor: float, gradient: Floats, hessian: Floats) -> None:
    """The negative log-likelihood of a Poisson variable whose log mean is the score."""
    for row in range(len(scores)):
        mean = exp(scores[row])
        gradient[row] = (mean - labels[row]) * factor
        hessian[row] = mean * factor


@compiled
def inverse_ideals(
    labels: Floats, starts: Integers, discounts: Floats, gains: Floats, truncation: int, inverse: Floats
) -> None:
    """1 / the largest DCG of each query; 0 where nothing is relevant."""
    for query in range(len(starts) - 1):
        best = np.sort(labels[starts[query] : starts[query + 1]])[::-1]
        ideal = 0.0
        for place in range(min(truncation, len(best))):
            ideal += gains[int(best[place])] * discounts[place]
        inverse[query] = 1.0 / ideal if ideal > 0.0 else 0.0


@compiled
def lambdas(
    scores: Floats,
    labels: Floats,
    starts: Integers,
    inverse: Floats,
    discounts: Floats,
    gains: Floats,
    truncation: int,
    gradient: Floats,
    hessian: Floats,
) -> None:
    """Every pair of a query that swaps a place above the truncation, as LightGBM weighs it."""
    for query in range(len(starts) - 1):
        first, last = starts[query], starts[query + 1]
        if inverse[query] == 0.0:
            continue
        order = np.argsort(-scores[first:last], kind="mergesort") + first
        spread = scores[order[0]] != scores[order[-1]]
        total = 0.0
        for i in range(min(truncation, len(order) - 1)):
            for j in range(i + 1, len(order)):
                high, low = order[i], order[j]
                if labels[high] == labels[low]:
                    continue
                if labels[high] < labels[low]:
                    high, low = low, high
                delta = scores[high] - scores[low]
                weight = gains[int(labels[high])] - gains[int(labels[low])]
                weight *= abs(discounts[i] - discounts[j]) * inverse[query]
                if spread:
                    weight /= 0.01 + abs(delta)
                p = 1.0 / (1.0 + exp(delta))
                gradient[high] -= weight * p
                gradient[low] += weight * p
                hessian[high] += weight * p * (1.0 - p)
                hessian[low] += weight * p * (1.0 - p)
                total += 2.0 * weight * p
        if total > 0.0:
            factor = log2(1.0 + total) / total
            for row in range(first, last):
                gradient[row] *= factor
                hessian[row] *= factor
