"""When the parts of a temporal split begin: agreed by sums of the participants' event times."""

import numpy as np
from numpy.typing import NDArray

from feature_store.splits import TemporalSplit
from federation.channel import Channel
from federation.exact_sum import INTEGERS
from federation.sketch import quantiles


def moments(
    channel: Channel, seconds: NDArray[np.float64], split: TemporalSplit, windows: int
) -> list[float]:
    """When the windows whose labels train a ranker begin, then validation and test; seconds since 1970.

    Each of at most `windows` windows holds as many of everybody's events as validation does.  The cuts of
    the split are kept where it has them, else they are quantiles of all events' times: none without events.
    """
    given = [cut.timestamp() for cut in split.cuts or ()]
    first, last = _shares(channel, seconds, given) if given else (split.validation, split.test)
    earlier = [first - place * (last - first) for place in range(windows, 0, -1)]
    wanted = [share for share in earlier if share > 0] + ([] if given else [first, last])
    found = quantiles(channel, seconds, wanted, bits=40).values[0] if wanted else np.zeros(0)
    return _rising([*found[~np.isnan(found)].tolist(), *given])


def _shares(channel: Channel, seconds: NDArray[np.float64], cuts: list[float]) -> tuple[float, float]:
    """The share of everybody's events before each cut."""
    mine = [len(seconds), *(int((seconds < cut).sum()) for cut in cuts)]
    count, *before = channel.sum("before the cuts", np.array(mine), INTEGERS).tolist()
    return before[0] / max(count, 1), before[1] / max(count, 1)


def _rising(found: list[float]) -> list[float]:
    """Without the windows that are empty, since too many events have one time."""
    return [
        each
        for place, each in enumerate(found)
        if all(round(each) < round(later) for later in found[place + 1 :])
    ]
