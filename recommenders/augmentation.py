"""Histories as they might have been: what training reads in place of those that were.

Xie et al. 2022, "Contrastive Learning for Sequential Recommendation", section 3.2: crop, mask and reorder,
drawn anew in each pass.  Here they teach what comes next, without a contrastive loss.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federation.frozen import Frozen

Events = NDArray[np.int64]
"""Numbers of events, (histories, steps): oldest first, then -1."""


class AugmentConfig(Frozen):
    """How much of a history is changed whenever it is read in training."""

    crop: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="share of a history's events, at its two ends, that are left out"
    )
    mask: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="share of the events that are read as nothing"
    )
    reorder: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="share of a history's events, one after the other, that are shuffled"
    )


def augmented(events: Events, config: AugmentConfig, random: np.random.Generator) -> Events:
    """Each history cropped, then reordered, (histories, steps)."""
    sizes = (events >= 0).sum(axis=1)
    if config.crop:
        sizes, events = _cropped(events, sizes, config.crop, random)
    return _reordered(events, sizes, config.reorder, random) if config.reorder else events


def masked(events: Events, share: float, random: np.random.Generator) -> Events:
    """The same with a `share` of the events, each by chance, as -1."""
    return np.where(random.random(events.shape) < share, -1, events) if share else events


def _cropped(
    events: Events, sizes: NDArray[np.int64], share: float, random: np.random.Generator
) -> tuple[NDArray[np.int64], Events]:
    """A stretch of each history that begins anywhere; of one event or two all."""
    kept = np.maximum(np.minimum(sizes, 2), np.ceil((1 - share) * sizes).astype(np.int64))
    starts = random.integers(sizes - kept + 1)
    steps = np.arange(events.shape[1])
    found = np.take_along_axis(events, np.minimum(steps + starts[:, None], len(steps) - 1), axis=1)
    return kept, np.where(steps < kept[:, None], found, -1)


def _reordered(events: Events, sizes: NDArray[np.int64], share: float, random: np.random.Generator) -> Events:
    """A stretch of each history in an order drawn by chance, the rest where it was."""
    long = np.floor(share * sizes).astype(np.int64)
    starts = random.integers(sizes - long + 1)[:, None]
    steps = np.arange(events.shape[1])
    inside = (steps >= starts) & (steps < starts + long[:, None])
    # Those inside are sorted by chance among the places that they had.
    drawn = starts + random.random(events.shape) * long[:, None]
    order = np.argsort(np.where(inside, drawn, steps), axis=1, kind="stable")
    return np.take_along_axis(events, order, axis=1)
