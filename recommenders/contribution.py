"""What a participant weighs by how much it contributes: by how near its changes were to everybody's.

FedAdp (Wu and Wang 2021, "Fast-Convergent Federated Learning With Adaptive Weighting").  Each takes its own
angles, from sums that it has heard, and says one number, what it weighs, in a sum.  Rows of items weigh by
events: their sums, each time with other factors, could be taken apart into the counts of each participant.
"""

import math
from collections.abc import Sequence

import numpy as np

from recommenders.attention import Network

ALPHA = 5.0
"""alpha, as in the paper's experiments: the larger, the nearer weights are to all or nothing."""

UNITS = 1024
"""Of a weight in one event."""


def angle(change: Network, mean: Network) -> float:
    """Between a change and everybody's mean of the same rows, in radians; a right one if one is 0."""
    one, other = (
        np.concatenate([each.dense, each.table.ravel()], dtype=np.float64) for each in (change, mean)
    )
    lengths = math.sqrt(float(one @ one) * float(other @ other))
    return math.acos(np.clip(one @ other / lengths, -1.0, 1.0)) if lengths else math.pi / 2


def weight(events: int, angles: Sequence[float]) -> int:
    """So many `events` times exp(f(theta)), f Gompertz's function and theta the mean of `angles`.

    In 1,024ths, 1 to e^5 times as much; theta is 1 before there is an angle.
    """
    theta = float(np.mean(angles)) if len(angles) else 1.0
    gompertz = ALPHA * (1 - math.exp(-math.exp(-ALPHA * (theta - 1))))
    return round(UNITS * math.exp(gompertz)) * events
