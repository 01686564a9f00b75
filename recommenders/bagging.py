"""Bagging of trees that participants grow by themselves: a baseline for comparison only, it is NOT additive.

As Flower's XGBoost example has it: in each round every participant grows a tree on its own rows, from the
scores of the common model, and hands it over; the common model takes all of them.  What leaves a
participant is its tree, whose splits and leaves are its own: no sum, nothing that masks could hide.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from federation.channel import Solo
from recommenders.bins import Bins
from recommenders.boosting import BoostingConfig, Rows, State
from recommenders.growth import begin, binned, grow
from recommenders.trees import read_leaves, set_leaves


def bagged(parts: Sequence[Rows], bins: Bins, config: BoostingConfig, trees: int) -> State:
    """The model of `trees` rounds, in each of which every one of `parts` adds a tree of its own.

    It has `trees` times `len(parts)` trees; a leaf counts 1 / `len(parts)`, so that a round takes one step.
    """
    state = begin(Solo(), _pooled(parts), bins, config)
    data = [binned(rows, bins, config) for rows in parts]
    for _ in range(trees):
        grown = [
            grow(Solo(), rows, state, config, 1, data=mine).trees[-1]
            for rows, mine in zip(parts, data, strict=True)
        ]
        shares = [set_leaves(block, read_leaves(block) / len(parts)) for block in grown]
        state = state.model_copy(update={"trees": (*state.trees, *shares)})
    return state


def _pooled(parts: Sequence[Rows]) -> Rows:
    """All rows, for what follows from their labels; queries and weights where the `parts` have them."""
    columns = zip(*parts, strict=True)
    joined: list[Any] = [None if each[0] is None else np.concatenate(each) for each in columns]
    return Rows(*joined)
