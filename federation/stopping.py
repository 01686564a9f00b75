"""When to stop: a pure function from the metric's history to a decision, with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from federation.frozen import Frozen


class StopRule(Frozen):
    """A target, patience and a maximum number of rounds; the first that holds stops the run."""

    maximum_rounds: Annotated[int, Field(ge=1, description="rounds after which a run stops in any case")]
    target: Annotated[float | None, Field(description="stop when the metric has reached this")] = None
    patience: Annotated[
        int | None, Field(ge=1, description="stop after so many rounds in a row without a gain")
    ] = None
    least_gain: Annotated[float, Field(ge=0, description="what counts as a gain over the best so far")] = 0.0
    better: Annotated[Literal["higher", "lower"], Field(description="which way the metric improves")] = (
        "higher"
    )


@dataclass(frozen=True)
class Decision:
    """Whether to stop, why (a sentence for the log), and the best round, counted from 0 (-1: none yet)."""

    stop: bool
    reason: str
    best_round: int


def decide(history: Sequence[float], rule: StopRule) -> Decision:
    """What `rule` says after the rounds whose metric is in `history`; NaN is never a gain."""
    sign = 1.0 if rule.better == "higher" else -1.0
    best_round = _best_round([sign * value for value in history], rule.least_gain)
    rounds, waited = len(history), len(history) - 1 - best_round
    if rule.target is not None and any(sign * value >= sign * rule.target for value in history[-1:]):
        return Decision(True, f"reached the target {rule.target:g} with {history[-1]:g}", best_round)
    if rule.patience is not None and waited >= rule.patience:
        return Decision(True, f"no gain in {waited} rounds", best_round)
    if rounds >= rule.maximum_rounds:
        return Decision(True, f"{rounds} rounds, the maximum", best_round)
    return Decision(False, f"round {rounds} of at most {rule.maximum_rounds}", best_round)


def _best_round(values: Sequence[float], least_gain: float) -> int:
    """The last round that gained at least `least_gain` (more than 0) over the best before it."""
    best_round, best = -1, float("-inf")
    for number, value in enumerate(values):
        if value > best and value - best >= least_gain:
            best_round, best = number, value
    return best_round
