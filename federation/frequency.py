"""How often to train: pure functions from a history of observations to an interval, with its reason.

No clock and no I/O: who asks brings the history, the interval in force, and what the policy had remembered.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from federation.bandit import Bandit, sample
from federation.durations import DAY, Days
from federation.frozen import Frozen
from federation.observation import (
    Bounds,
    Costs,
    Observation,
    baseline,
    known,
    since_training,
    spell,
)
from federation.plateau import Plateau, follow_gains


class Periodic(Frozen):
    """A fixed interval."""

    kind: Literal["periodic"] = Field(default="periodic", description="a fixed interval")
    days: Days = Field(default=7.0, description="the interval")


class Drift(Bounds):
    """Keeps what the events drift between two trainings between a third of a limit and the limit."""

    kind: Literal["drift"] = Field(default="drift", description="follows the drift of the events")
    unseen: Annotated[float, Field(gt=0)] = Field(
        default=0.02,
        description="limit of the growth of the share of events on items that the champion never saw",
    )
    stability: Annotated[float, Field(gt=0)] = Field(
        default=0.1, description="limit of the growth of the stability index of popularity"
    )
    features: Annotated[float, Field(gt=0)] = Field(
        default=0.25, description="limit of the growth of the largest stability index of a feature"
    )
    probe: Annotated[int, Field(ge=1)] = Field(
        4,
        description="trainings at the shortest interval, where no drift shows, after which a longer is tried",
    )


Policy = Annotated[Periodic | Plateau | Drift | Bandit, Field(discriminator="kind")]


class FrequencyConfig(Frozen):
    """How often a consortium trains, and what a training costs."""

    policy: Policy = Field(default=Periodic(), description="how the interval is chosen")
    costs: Costs = Field(default=Costs(), description="what a training costs")


class Decision(Frozen):
    """The interval to train at, why (for an operator), and what to remember for the next decision."""

    interval_seconds: float
    reason: str
    state: Mapping[str, float] = Field(default_factory=dict)


def decide(
    config: FrequencyConfig,
    history: Sequence[Observation],
    interval_seconds: float,
    state: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Decision:
    """The interval after `history` (oldest first), with `interval_seconds` in force.

    `state` is that of the decision before.  The same arguments give the same decision, and a decision
    repeated with its own state learns nothing twice.  Where there is nothing to observe the interval
    stays, moved into the bounds.  Nothing is raised for what is missing or not finite.
    """
    policy, state = config.policy, dict(state or {})
    if isinstance(policy, Periodic):
        return Decision(interval_seconds=policy.days * DAY, reason="a fixed interval", state=state)
    if not any(known(seen.metric) is not None for seen in history[-1:]):
        missing = "the newest window has no metric" if history else "nothing was observed yet"
        kept = policy.within(interval_seconds)
        return Decision(interval_seconds=kept, reason=f"{missing}: the interval stays", state=state)
    if isinstance(policy, Bandit):
        interval, reason, state = sample(policy, config.costs, history, interval_seconds, state, seed)
    elif isinstance(policy, Plateau):
        interval, reason = follow_gains(policy, config.costs, history, interval_seconds)
    else:
        interval, reason = follow_drift(policy, history, interval_seconds)
    return Decision(interval_seconds=interval, reason=reason, state=state)


def follow_drift(policy: Drift, history: Sequence[Observation], interval: float) -> tuple[float, str]:
    """The interval after `history`, with `interval` in force, and the reason.

    A rung shorter as soon as the limit is passed; a rung longer where a whole interval stayed below a third
    of it. A rung at most doubles the interval, so a change does not call for its own reversal.
    """
    present, champion = policy.within(interval), since_training(history)
    if changed(champion, interval):
        return present, "the interval has changed since the last training"
    if (grown := _growth(policy, champion)) > 1:
        return policy.climb(present, -1), f"drift since the training is {grown:.1f} times its limit"
    whole = since_training(history[: -len(champion)])
    if len(champion) > 1 or not whole or changed(whole, interval):
        return present, f"drift since the training is {grown:.1f} times its limit"
    if len(whole) == 1:
        rested = sum(seen.trained for seen in history[-policy.probe :]) == policy.probe
        rested = rested and not changed(history[-policy.probe :], interval)
        why = f"drift does not show within {spell(present)}"
        return (policy.climb(present, 1), f"{why}: a longer one is tried") if rested else (present, why)
    grown = _growth(policy, whole)
    why = f"drift within {spell(present)} was {grown:.1f} times its limit"
    return policy.climb(present, 1) if grown < 1 / 3 else present, why


def changed(part: Sequence[Observation], interval: float) -> bool:
    """Whether another interval than `interval` was in force in `part`."""
    return any(seen.interval_seconds != interval for seen in part)


def _growth(policy: Drift, champion: Sequence[Observation]) -> float:
    """How far drift has grown while one model was champion, in limits; 0 where it is not known."""
    first, last = baseline(champion), champion[-1]
    told = (
        (first.unseen, last.unseen, policy.unseen),
        (first.drift, last.drift, policy.stability),
        (first.features, last.features, policy.features),
    )
    grown = [
        (after - before) / limit
        for start, end, limit in told
        if (before := known(start)) is not None and (after := known(end)) is not None
    ]
    return max([*grown, 0.0])
