"""What a policy of update frequency sees, what a training costs, which intervals it may choose from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from federation.durations import DAY, Days
from federation.frozen import Frozen

LEAST_ERROR = 0.01  # of a gain, as a share: no training tells more exactly
LARGEST = 1e9
Price = Annotated[float, Field(ge=0)]


class Observation(Frozen):
    """What was seen when a window of events was complete; None, or NaN, is what is not known."""

    model_config = ConfigDict(allow_inf_nan=True)

    at: float = Field(description="end of the window, seconds since 1970")
    trained: bool = Field(
        default=False, description="the window began with a training, whose model it judges"
    )
    promoted: bool = Field(default=True, description="a training's model became the champion")
    interval_seconds: float = Field(description="the interval in force")
    metric: float | None = Field(default=None, description="the champion's metric in the window")
    metric_error: float | None = Field(default=None, description="its bootstrap error")
    gain: float | None = Field(
        default=None, description="the training's metric less that of the champion that it met"
    )
    gain_error: float | None = Field(
        default=None, description="its bootstrap error, on the same draws of queries"
    )
    drift: float | None = Field(default=None, description="stability index of popularity since the training")
    unseen: float | None = Field(
        default=None, description="share of events on items that the champion never saw"
    )
    features: float | None = Field(
        default=None, description="largest stability index of a feature since the training"
    )
    seconds: float = Field(default=0.0, description="what the training took")
    bytes: float = Field(default=0.0, description="what it sent and received, over all participants")
    epsilon: float = Field(default=0.0, description="the privacy that it spent")


class Costs(Frozen):
    """What a training costs: the share of the metric, over one shortest interval, that it must bring."""

    training: Price = Field(default=0.02, description="any training, whatever it takes")
    second: Price = Field(default=0.0, description="each second that it takes")
    gigabyte: Price = Field(default=0.0, description="each gigabyte that it sends or receives")
    epsilon: Price = Field(
        default=0.0, description="each unit of privacy that it spends; nothing spends any yet"
    )

    def of(self, seen: Observation) -> float:
        """The cost of the training that `seen` tells of."""
        spent = self.second * seen.seconds + self.gigabyte * seen.bytes / 1e9
        return self.training + spent + self.epsilon * seen.epsilon


class Bounds(Frozen):
    """The shortest and the longest interval that a policy may choose."""

    shortest_days: Days = Field(default=1.0, description="no interval is shorter")
    longest_days: Days = Field(default=16.0, description="no interval is longer")

    @model_validator(mode="after")
    def _ordered(self) -> "Bounds":
        if self.shortest_days > self.longest_days:
            raise ValueError(f"longest_days is {self.longest_days:g}, less than shortest_days")
        return self

    @property
    def shortest(self) -> float:
        """The shortest interval in seconds."""
        return self.shortest_days * DAY

    @property
    def middle(self) -> float:
        """The interval in seconds that is as many times the shortest as the longest is of it."""
        return math.sqrt(self.shortest_days * self.longest_days) * DAY

    @property
    def ladder(self) -> tuple[float, ...]:
        """The intervals to choose from, in seconds: 1, 2, 3, 4, 6, 8, 11, ... shortest ones, the longest."""
        count = self.longest_days / self.shortest_days
        rungs = {round(2 ** (half / 2)) for half in range(int(2 * math.log2(count)) + 1)}
        return (*(self.shortest * rung for rung in sorted(rungs) if rung < count), self.longest_days * DAY)

    def within(self, seconds: float) -> float:
        """The allowed interval next to `seconds`; the shortest where that is not a number."""
        return min(max(self.shortest, seconds), self.longest_days * DAY)

    def climb(self, seconds: float, rungs: int) -> float:
        """The interval so many rungs of the ladder above that next to `seconds`; below, where negative."""
        seconds = self.within(seconds)
        nearest = min(range(len(self.ladder)), key=lambda rung: abs(math.log(self.ladder[rung] / seconds)))
        return self.ladder[min(max(nearest + rungs, 0), len(self.ladder) - 1)]


@dataclass(frozen=True)
class Training:
    """What a training told: the age of the champion that it met, gain and error as shares, its cost.

    The age is in shortest intervals; `unseen` and `drift` are what moved even since this training.
    """

    at: float
    age: float
    gain: float
    error: float
    cost: float
    unseen: float
    drift: float


def trainings(history: Sequence[Observation], bounds: Bounds, costs: Costs) -> list[Training]:
    """The trainings of `history` whose gain is known; shares and errors beyond 1 are taken as 1.

    All have one error, the root of the mean square: a training that changed few lists has no gain and next to
    no error, so that weighing each by its own would take every estimate towards no gain.
    """
    told: list[Training] = []
    last: float | None = None
    for seen in history:
        if not seen.trained:
            continue
        met, last = last, seen.at if seen.promoted else last
        metric, gain = known(seen.metric), known(seen.gain)
        if metric is None or metric <= 0 or gain is None:
            continue
        age = bounds.within(seen.interval_seconds if met is None else seen.at - met)
        share = min(max(gain / metric, -1.0), 1.0)
        error = min(max((known(seen.gain_error) or 0.0) / metric, LEAST_ERROR), 1.0)
        moved = (min(max(known(value) or 0.0, 0.0), 1.0) for value in (seen.unseen, seen.drift))
        told.append(Training(seen.at, age / bounds.shortest, share, error, costs.of(seen), *moved))
    square = sum(each.error**2 for each in told) / max(len(told), 1)
    return [replace(each, error=math.sqrt(square)) for each in told]


def since_training(history: Sequence[Observation]) -> Sequence[Observation]:
    """The observations of the present champion: those from the last training on, or all."""
    starts = [place for place, seen in enumerate(history) if seen.trained]
    return history[starts[-1] :] if starts else history


def baseline(champion: Sequence[Observation]) -> Observation:
    """What drift of the champion is counted from; not from a refused training, which judges its own model."""
    return next((seen for seen in champion if seen.promoted), champion[-1])


def known(value: float | None) -> float | None:
    """`value` where it is a number of a size that a metric can have."""
    return value if value is not None and abs(value) <= LARGEST else None


def spell(seconds: float) -> str:
    """An interval as operators write it: 7 d, 36 h, 10 min."""
    for unit, name in ((DAY, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"
