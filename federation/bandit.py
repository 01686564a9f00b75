"""Thompson sampling over intervals (Thompson 1933), linear in its context (Agrawal and Goyal 2013).

The reward of an interval of k shortest ones is the share of the metric that is kept, less what its
trainings cost: 1 - rate (k - 1) / 2 - cost / k.  Not known is the rate, the share that is lost for each
shortest interval of age.  It is linear in the context: season, and what moved even since a training (the
share of events on items that are new to a fresh model, and the stability index of popularity).  Each
training's gain over the model before is a noisy look at rate * age, so every one teaches about every
interval, and the state is one Gaussian of five coefficients.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federation.durations import DAY
from federation.observation import Bounds, Costs, Observation, Training, spell, trainings

YEAR = 365.25 * DAY
PRIOR_MEAN = np.array([0.003, 0.03, 0.01, 0.0, 0.0])
PRIOR = np.diag(np.array([0.003, 0.05, 0.05, 0.001, 0.001]) ** -2.0)
LONGEST = 10_000
"""Shortest intervals in the longest: a larger square of an age leaves no digit of the prior beside it."""
_UPPER = np.triu_indices(len(PRIOR_MEAN))

Floats = NDArray[np.float64]


class Bandit(Bounds):
    """Learns which interval is worth its cost, in which context."""

    kind: Literal["bandit"] = Field(
        default="bandit", description="learns the interval that is worth its cost"
    )
    exploration: Annotated[float, Field(ge=0)] = Field(
        default=0.1, description="scale of what is drawn around the estimate; 0 takes the estimate"
    )
    forget: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.98, description="what is left of the weight of earlier trainings after one more"
    )

    @model_validator(mode="after")
    def _comparable(self) -> "Bandit":
        if self.longest_days > LONGEST * self.shortest_days:
            raise ValueError(f"longest_days is {self.longest_days:g}, more than {LONGEST:,} shortest_days")
        return self


def sample(
    policy: Bandit,
    costs: Costs,
    history: Sequence[Observation],
    interval: float,
    state: Mapping[str, float],
    seed: int,
) -> tuple[float, str, dict[str, float]]:
    """The interval after `history`, with `interval` in force, the reason, and the state to keep."""
    precision, pull, until, count = _read(state)
    fresh = [each for each in trainings(history, policy, costs) if each.at > until]
    if not fresh:
        return policy.within(interval), "no training since the last decision", dict(state)
    for told in fresh:
        seen = told.age * _context(told)
        precision = _mixed(policy.forget, precision, PRIOR) + np.outer(seen, seen) / told.error**2
        pull = _mixed(policy.forget, pull, PRIOR @ PRIOR_MEAN) + seen * told.gain / told.error**2
    last, count = fresh[-1], count + len(fresh)
    noise = policy.exploration * np.random.default_rng([seed, count]).standard_normal(len(pull))
    rate = max(float(_context(last) @ _drawn(precision, pull, noise)), 0.0)
    chosen = min(policy.ladder, key=lambda each: _regret(each / policy.shortest, rate, last.cost))
    why = f"drawn from {count} trainings: {spell(policy.shortest)} of age loses {rate:.2%}, a training costs"
    return chosen, f"{why} {last.cost:.2%}", _written(precision, pull, last.at, count)


def _drawn(precision: Floats, pull: Floats, noise: Floats) -> Floats:
    """Coefficients from the Gaussian, as standard normal `noise` draws them."""
    root = np.linalg.cholesky(precision)
    return np.asarray(np.linalg.solve(precision, pull) + np.linalg.solve(root.T, noise), np.float64)


def _regret(length: float, rate: float, cost: float) -> float:
    return rate * (length - 1) / 2 + cost / length


def _mixed(share: float, learned: Floats, prior: Floats) -> Floats:
    """What is left of what was learned: the rest is forgotten, towards the prior."""
    return share * learned + (1 - share) * prior


def _context(told: Training) -> Floats:
    season = 2 * math.pi * told.at / YEAR
    return np.array([1.0, told.unseen, told.drift, math.sin(season), math.cos(season)])


def _read(state: Mapping[str, float]) -> tuple[Floats, Floats, float, int]:
    """Precision and precision times mean, the time of the last training in them, and how many there are."""
    if "until" not in state:
        return PRIOR, PRIOR @ PRIOR_MEAN, -math.inf, 0
    upper = np.zeros((len(PRIOR_MEAN),) * 2)
    upper[_UPPER] = [state[f"precision_{row}{column}"] for row, column in zip(*_UPPER, strict=True)]
    precision = upper + np.triu(upper, 1).T
    pull = np.array([state[f"pull_{row}"] for row in range(len(PRIOR_MEAN))])
    return precision, pull, state["until"], int(state["trainings"])


def _written(precision: Floats, pull: Floats, until: float, count: int) -> dict[str, float]:
    cells = zip(*_UPPER, precision[_UPPER].tolist(), strict=True)
    kept = {f"precision_{row}{column}": value for row, column, value in cells}
    kept |= {f"pull_{row}": value for row, value in enumerate(pull.tolist())}
    return {**kept, "until": until, "trainings": float(count)}
