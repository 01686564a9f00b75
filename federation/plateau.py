"""Longer intervals while trainings gain little for their cost, shorter ones when the champion loses ground.

A model that loses `rate` of the metric for each shortest interval of its age has lost rate k^2 / 2 after k of
them. Loss and cost a unit of time are least together where that comes to what a training costs, at
k = sqrt(2 cost / rate): the lot size of Harris (1913).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from federation.observation import (
    Bounds,
    Costs,
    Observation,
    Training,
    baseline,
    known,
    since_training,
    spell,
    trainings,
)


@dataclass(frozen=True)
class Alarm:
    """A suspicion that the champion is stale, `at` a moment, and the window of the training that tests it."""

    at: float
    test: Observation | None

    @property
    def borne_out(self) -> bool:
        """Whether the test gained more than twice its error, or its gain is not known."""
        gain = known(self.test.gain) if self.test else None
        error = known(self.test.gain_error) if self.test else None
        return gain is None or gain > 2 * (error or 0.0)


class Plateau(Bounds):
    """Follows what trainings gain, their error and cost, and the champion's live metric."""

    kind: Literal["plateau"] = Field(
        default="plateau", description="follows what a training gains for its cost"
    )
    memory: Annotated[int, Field(ge=1)] = Field(default=12, description="trainings whose gains are looked at")
    hysteresis: Annotated[float, Field(ge=1)] = Field(
        default=1.4, description="the interval stays while the right one is within this factor of it"
    )
    cooldown: Annotated[int, Field(ge=0)] = Field(
        default=2, description="trainings at an interval before it is made longer"
    )
    fall: Annotated[float, Field(gt=0)] = Field(
        default=3.0, description="spreads by which the live metric falls below its recent mean in an alarm"
    )
    rise: Annotated[float, Field(gt=0)] = Field(
        default=0.25, description="rise of the stability index since the training that is an alarm"
    )


def follow_gains(
    policy: Plateau, costs: Costs, history: Sequence[Observation], interval: float
) -> tuple[float, str]:
    """The interval after `history`, with `interval` in force, and the reason."""
    present = policy.within(interval)
    if alarm := _alarm(policy, history):
        return policy.shortest, alarm
    told = trainings(history, policy, costs)[-policy.memory :]
    alarms = _alarms(policy, history, told[0].at if told else -math.inf)
    if alarms and alarms[-1].test is None:
        return policy.shortest, "the last alarm waits for a training"
    since = max((each.at for each in alarms if each.borne_out), default=-math.inf)
    told = [each for each in told if each.at > since]
    if not told:
        return present, "no gain is known of a training since the last alarm, or at all"
    rate, cost = loss_rate(told, policy.middle / policy.shortest), told[-1].cost
    right = policy.within(math.sqrt(2 * cost / rate) * policy.shortest if rate > 0 else math.inf)
    why = f"{spell(policy.shortest)} of age loses {rate:.2%}, a training costs {cost:.2%}"
    if max(right / present, present / right) <= policy.hysteresis:
        return present, f"{why}, near enough"
    if right > present and not (_was_false(alarms, history) or _rested(history, policy.cooldown)):
        return present, f"{why}, after {policy.cooldown} trainings at this interval"
    return policy.climb(right, 0), why


def loss_rate(told: Sequence[Training], middle: float) -> float:
    """The share of the metric that a shortest interval of age loses: least squares through 0.

    The prior is the rate at which the `middle` of the bounds (in shortest intervals) is right, so that
    gains within their errors change little.
    """
    prior = 2 * told[-1].cost / middle**2
    certain = 1 / max(prior, 1e-6) ** 2
    above = certain * prior + sum(each.age * each.gain / each.error**2 for each in told)
    return above / (certain + sum((each.age / each.error) ** 2 for each in told))


def _alarms(policy: Plateau, history: Sequence[Observation], since: float) -> list[Alarm]:
    """The alarms `since` the oldest training that is remembered, each with the first training after it."""
    seen = (end for end, each in enumerate(history, 1) if each.at >= since)
    ends = (end for end in seen if _alarm(policy, history[:end]))
    return [Alarm(history[end - 1].at, next((s for s in history[end:] if s.trained), None)) for end in ends]


def _was_false(alarms: Sequence[Alarm], history: Sequence[Observation]) -> bool:
    """Whether the last training tested an alarm, and did not bear it out."""
    return bool(alarms) and alarms[-1].test is since_training(history)[0] and not alarms[-1].borne_out


def _alarm(policy: Plateau, history: Sequence[Observation]) -> str:
    """What is wrong with the champion in the newest window, if anything is."""
    champion = since_training(history)
    first, last = baseline(champion), champion[-1]
    drifts = known(first.drift), known(last.drift)
    if drifts[0] is not None and drifts[1] is not None and drifts[1] - drifts[0] > policy.rise:
        return f"the stability index rose by {drifts[1] - drifts[0]:.2f} since the training"
    if last.trained:  # the model is as fresh as can be: whatever fell, it is not for want of a training
        return ""
    metric, before = known(last.metric), [known(seen.metric) for seen in history[-policy.memory - 1 : -1]]
    recent = np.array([value for value in before if value is not None])
    if metric is not None and len(recent) >= 3:
        error = max(float(recent.std()), known(last.metric_error) or 0.0)
        if metric < recent.mean() - policy.fall * error:
            return f"the champion's metric fell to {metric:.4f} from {recent.mean():.4f}"
    return ""


def _rested(history: Sequence[Observation], trainings: int) -> bool:
    """Whether the interval in force has held for so many trainings."""
    since = 0
    for seen in reversed(history):
        if seen.interval_seconds != history[-1].interval_seconds:
            return since >= trainings
        since += seen.trained
    return True
