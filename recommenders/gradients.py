"""First and second derivatives of the objectives, as integers of an agreed unit.

Trees are grown on integer gradients, so that every sum of them is exact in any order.  Leaves are set by
a Newton step (Friedman 2001) from sums in a finer unit.  lambdarank is LambdaMART (Burges 2010) with
LightGBM's normalisation.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from federation.errors import BadInput
from federation.statistics import LARGEST
from recommenders import objectives
from recommenders.compiled import compiled
from recommenders.objectives import Floats, Integers

Objective = Literal["binary", "regression", "poisson", "lambdarank"]
Fine = NDArray[np.int32]
Derivatives = Callable[[Floats], tuple[Floats, Floats]]

BOUND_BITS: dict[Objective, int] = {"binary": 0, "regression": 4, "poisson": 4, "lambdarank": 3}
"""log2 of the largest |gradient|.  A probability differs from a label by at most 1.  Labels of regressions
are scaled by their deviation, beyond 16 of them a gradient is clipped.  LightGBM's normalisation leaves a
query whose lambdas sum to s with log2(1 + s): 8 on one row means s of more than 65,000."""

LEAF_BITS = 24
"""Bits behind the point of the gradients and hessians that set leaves: with those of a bound they fit 32."""

MOST_RELEVANT = 30
"""Largest label of lambdarank: its gain is 2^label - 1."""


class Rounded(NamedTuple):
    """Derivatives as integers: for the growth of a tree, and finer ones for its leaves."""

    growth: NDArray[np.float32]
    gradient: Fine
    hessian: Fine
    clipped: int


def derivatives(
    objective: Objective,
    labels: Floats,
    queries: Integers | None,
    scale: float,
    truncation: int,
    weights: Floats | None = None,
) -> Derivatives:
    """A function of the scores (n,) that returns gradients and hessians (n,), each divided by `scale`.

    `queries` are the sizes of consecutive queries, for lambdarank; `weights` (n,) multiply both.  Raises
    `BadInput` for labels that the objective does not know.
    """
    check_labels(objective, labels, queries)
    if objective == "lambdarank":
        assert queries is not None
        return _lambdarank(labels, queries, truncation)
    known = {"binary": objectives.binary, "regression": objectives.squared, "poisson": objectives.poisson}
    plain, labels = known[objective], np.ascontiguousarray(labels)  # else the loop goes one row at a time

    def derive(scores: Floats) -> tuple[Floats, Floats]:
        gradient, hessian = np.empty_like(scores), np.empty_like(scores)
        plain(scores, labels, 1.0 / scale, gradient, hessian)
        return (gradient, hessian) if weights is None else (gradient * weights, hessian * weights)

    return derive


def rounded(objective: Objective, bits: int, gradient: Floats, hessian: Floats) -> Rounded:
    """Integers: gradients in units of 2^-bits for the growth, both in units of 2^-LEAF_BITS for leaves.

    What is beyond the objective's bound is clipped and counted.  A hessian is at least 1 unit where
    the gradient is not 0: a leaf with a hessian of 0 would have no bound.
    """
    growth = np.empty(gradient.size, np.float32)
    fine, curvature = np.empty(gradient.size, np.int32), np.empty(gradient.size, np.int32)
    bound = 2.0 ** BOUND_BITS[objective]
    clipped = _round(gradient, hessian, bound, 2.0**bits, 2.0**LEAF_BITS, growth, fine, curvature)
    return Rounded(growth, fine, curvature, clipped)


def check_labels(objective: Objective, labels: Floats, queries: Integers | None) -> None:
    """Raise `BadInput` for labels or queries that `objective` does not know."""
    strange = int((~(np.abs(labels) <= LARGEST)).sum())
    if strange or not labels.size:
        raise BadInput(
            f"{objective}: expected one or more labels, each finite and up to {LARGEST:.0e}; "
            f"found {labels.size}, {strange} of them otherwise"
        )
    if objective == "binary" and not np.isin(labels, (0.0, 1.0)).all():
        raise BadInput("binary: expected labels 0 and 1")
    if objective == "poisson" and (labels < 0).any():
        raise BadInput("poisson: expected labels of 0 and more")
    if objective != "lambdarank":
        return
    if queries is None or queries.sum() != labels.size or (queries < 1).any():
        raise BadInput(f"lambdarank: expected sizes of queries that sum to {labels.size} rows")
    if not ((labels == np.floor(labels)) & (labels >= 0) & (labels <= MOST_RELEVANT)).all():
        raise BadInput(f"lambdarank: expected whole labels from 0 to {MOST_RELEVANT}")


def _lambdarank(labels: Floats, queries: Integers, truncation: int) -> Derivatives:
    starts = np.concatenate([[0], np.cumsum(queries)])
    discounts = np.array([1.0 / objectives.log2(place + 2.0) for place in range(int(queries.max()))])
    gains = np.array([float(2**label - 1) for label in range(MOST_RELEVANT + 1)])
    ideals = np.zeros(len(queries))
    objectives.inverse_ideals(labels, starts, discounts, gains, truncation, ideals)

    def derive(scores: Floats) -> tuple[Floats, Floats]:
        gradient, hessian = np.zeros_like(scores), np.zeros_like(scores)
        objectives.lambdas(scores, labels, starts, ideals, discounts, gains, truncation, gradient, hessian)
        return gradient, hessian

    return derive


@compiled
def _round(
    gradient: Floats,
    hessian: Floats,
    bound: float,
    growth_unit: float,
    leaf_unit: float,
    growth: NDArray[np.float32],
    fine: Fine,
    curvature: Fine,
) -> int:
    clipped = 0
    for row in range(len(gradient)):
        g, h = gradient[row], hessian[row]
        if abs(g) > bound or h > bound:
            clipped += 1
            g, h = min(max(g, -bound), bound), min(h, bound)
        growth[row] = np.rint(g * growth_unit)
        fine[row] = int(np.rint(g * leaf_unit))
        curvature[row] = max(int(np.rint(h * leaf_unit)), 1 if g != 0.0 else 0)
    return clipped
