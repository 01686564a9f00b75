"""How far the cohort's events have moved since a training: the figures that the policies see."""

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel
from federation.drift import feature_drift, popularity_drift
from recommenders.two_stage import STORE

Counts = NDArray[np.int64]


def drift(
    channel: Channel,
    items: NDArray[np.int32],
    known: tuple[Counts, Counts],
    described: Counts,
    label: str = "drift",
) -> dict[str, float]:
    """Stability indices of popularity and features, and the share on unseen items; the same for all.

    `items` are of the own new events; `known` the cohort's counts of each item at the training, recent ones
    and all; `described` the cells by feature of the own events, the newest at the training and the new ones,
    (2, features, cells).  Features that nothing is known of are left out, and where it is all, the largest.
    """
    popularity = popularity_drift(channel, items, *known, label)
    indices = zip(STORE, feature_drift(channel, described, label), strict=True)
    features = {f"feature_drift/{name}": index for name, index in indices if not np.isnan(index)}
    largest = {"largest_feature_drift": max(features.values())} if features else {}
    return {"drift": popularity.stability, "unseen": popularity.unseen} | largest | features
