"""How a participant's own cadence composes with the consortium's interval.

- The consortium trains at its interval, but not before so many participants have something new as a sum
  may be opened of: what only one of them brought would be the difference of two sums.
- A participant with a cadence of its own brings new data at the first training when its cadence has passed.
- In between it takes part with what it brought last. So the cohort never changes for a cadence, and every
  participant is in every model.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Cadences:
    """Seconds between two trainings, and between two new contributions of each participant."""

    training: float
    participants: Mapping[str, float]


def compose(interval: float, own: Mapping[str, float | None], fresh: int) -> Cadences:
    """The cadences that come of the consortium's `interval` and each participant's `own` (None: any).

    `fresh` participants must bring something new for a training; all of them, where there are fewer.
    """
    waits = sorted(cadence or 0.0 for cadence in own.values())
    training = max([interval, *waits[:fresh]])
    return Cadences(training, {name: _whole(cadence or 0.0, training) for name, cadence in own.items()})


def brings(own: float | None, last: float | None, now: float) -> bool:
    """Whether a participant brings new data `now`: it never did, or its `own` cadence has passed since."""
    return own is None or last is None or now - last >= own * (1 - TOLERANCE)


def _whole(cadence: float, training: float) -> float:
    """The least whole number of trainings that is no shorter than `cadence`."""
    return max(1, math.ceil(cadence / training - TOLERANCE)) * training
