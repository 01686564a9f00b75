"""Choosing how much of the others to use, and how strongly to regularise, on one's own validation part."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["popularity", "item_to_item"]


@dataclass(frozen=True)
class Choice:
    """A kind of model, the share of the others in it, and its strength (a window's index, or λ)."""

    kind: Kind
    share: float
    strength: float

    def as_dict(self) -> dict[str, Any]:
        """The choice as plain values."""
        return asdict(self)


def choose(
    quality: Callable[[Choice], NDArray[np.float64]],
    kind: Kind,
    shares: Sequence[float],
    strengths: Sequence[float],
) -> Choice:
    """The best of `shares` x `strengths` by the mean of `quality` (one value a query), line by line.

    The strength is chosen at the smallest share first, then the share, then the strength again.
    """

    @cache
    def mean(choice: Choice) -> float:
        found = quality(choice)
        return float(found.mean()) if len(found) else 0.0

    first = _best(mean, [Choice(kind, min(shares), strength) for strength in strengths])
    second = _best(mean, [Choice(kind, share, first.strength) for share in sorted(shares)])
    return _best(mean, [second, *(Choice(kind, second.share, strength) for strength in strengths)])


def _best(mean: Callable[[Choice], float], choices: Sequence[Choice]) -> Choice:
    """The first of the best, so that the smaller share wins a tie."""
    return max(choices, key=mean)
