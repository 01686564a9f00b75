"""Which items are worth trying: a linear bandit, whose statistics are sums over what was shown.

The reward of an item that is shown, 1 where the user has it soon after, is taken as linear in a few features
x of user and item at that moment, by one theta for all items and organisations.  All that is known of theta
is A = sum x x' and b = sum r x.  `linucb` takes the upper end of what theta may be (Li et al. 2010, "A
contextual-bandit approach to personalized news article recommendation", algorithm 1), `thompson` draws theta
(Agrawal and Goyal 2013, "Thompson sampling for contextual bandits with linear payoffs", algorithm 1).

Features are multiples of 2^-8 in [0, 1], so their products are multiples of 2^-16, of which float64 adds
2^37 without rounding: however impressions are dealt out, A and b are the same to the last bit.
"""

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.linalg import cho_solve, solve_triangular

from federation.durations import Days
from federation.fixed_point import FixedPoint
from federation.frozen import Frozen

Floats = NDArray[np.float64]

FEATURES = ("constant", "place", "own_popularity", "others_popularity", "recent", "newness", "activity")
"""By column of a context: see `contexts`."""

FORM = FixedPoint(width=64, fraction_bits=16, terms=2**20, signed=False)
"""The form of A and b: exact, for up to 2^28 impressions of a participant."""

RIDGE = 1.0
"""What A begins with on its diagonal, as in both papers."""

_GRAIN = 2.0**-8
_HALF_LIFE = 30.0  # days in which newness halves
_ACTIVE = 1000.0  # events of a user that are as many as can be
_UPPER = np.triu_indices(len(FEATURES))


class ExploreConfig(Frozen):
    """How much of a list is for items that may be worth more than the model knows."""

    places: Annotated[int, Field(ge=0, le=100)] = Field(
        0, description="how many of a list's last places are for items that are worth trying; 0: none"
    )
    policy: Literal["thompson", "linucb"] = Field(
        "thompson",
        description="how they are found: by what is drawn anew for each list, or by upper confidence bounds, "
        "which are the same until the next training",
    )
    boldness: Annotated[float, Field(ge=0)] = Field(
        0.5, description="scale of the uncertainty that counts for an item; 0: only what is expected of it"
    )
    window_days: Days = Field(
        7.0, description="days after it was shown in which an item must be had to be a reward"
    )
    keep_days: Days = Field(
        90.0, description="days that a participant keeps, and each training counts, what was shown"
    )

    @model_validator(mode="after")
    def _kept_long_enough(self) -> "ExploreConfig":
        if self.keep_days <= self.window_days:
            raise ValueError(
                f"keep_days: found {self.keep_days:g}, expected more than window_days, {self.window_days:g}: "
                "what was shown counts when its window has passed"
            )
        return self


class Policy(NamedTuple):
    """The Gaussian of theta: `precision` (d, d), positive definite, and `pull` (d,), precision times mean."""

    precision: Floats
    pull: Floats


def contexts(own: Floats, others: Floats, recent: Floats, ages: Floats, events: int) -> Floats:
    """Features of n items, (n, d) in the order of `FEATURES`, each a multiple of 2^-8 in [0, 1].

    The items are in the order of the model's list, whose first has `place` 1, and the others 1 / log2 of what
    follows.  Of each, (n,): events at the participant (`own`), at the `others`, and lately (`recent`), whose
    logarithms count in shares of the largest; days since its first (`ages`), of which newness halves in 30.
    The user has had `events`, on a logarithmic scale that ends at 1,000.
    """
    columns = [
        np.ones(len(own)),
        1 / np.log2(np.arange(len(own)) + 2),
        *(_share(counts) for counts in (own, others, recent)),
        np.exp2(-ages / _HALF_LIFE),
        np.full(len(own), np.log1p(events) / np.log1p(_ACTIVE)),
    ]
    return np.asarray(np.rint(np.clip(np.column_stack(columns), 0, 1) / _GRAIN) * _GRAIN)


def statistics(shown: Floats, rewards: NDArray[Any]) -> Floats:
    """The term of n impressions, (d (d + 1) / 2 + d,): the upper triangle of A, then b.

    `shown` (n, d) are their contexts, `rewards` (n,) are 0 or 1.
    """
    return np.concatenate([(shown.T @ shown)[_UPPER], shown.T @ np.asarray(rewards, np.float64)])


def counts(opened: Floats) -> tuple[int, int]:
    """How many impressions a sum of `statistics` is of, and how many rewards: by the feature `constant`."""
    return int(opened[0]), int(opened[-len(FEATURES)])


def policy(opened: Floats | None) -> Policy:
    """What is known of theta by an opened sum of `statistics`; none: nothing but that it is small."""
    size = len(FEATURES)
    precision, pull = np.zeros((size, size)), np.zeros(size)
    if opened is not None:
        precision[_UPPER], pull = opened[:-size], opened[-size:]
    return Policy(precision + np.triu(precision, 1).T + RIDGE * np.eye(size), pull)


def worth(known: Policy, offered: Floats, config: ExploreConfig, rng: np.random.Generator) -> Floats:
    """How much the n items with contexts `offered` (n, d) are worth trying, (n,): rewards, optimistically."""
    root = np.linalg.cholesky(known.precision)
    mean = cho_solve((root, True), known.pull)
    if config.policy == "linucb":
        width = np.linalg.norm(solve_triangular(root, offered.T, lower=True), axis=0)
        return np.asarray(offered @ mean + config.boldness * width)
    noise = solve_triangular(root.T, rng.standard_normal(len(mean)), lower=False)
    return np.asarray(offered @ (mean + config.boldness * noise))


def places(worth: Floats, top: int, tried: int) -> NDArray[np.intp]:
    """The places in the model's list of what is shown, (top,) or fewer: its first, then `tried` of the rest.

    These have the largest `worth` (n,), largest first; of equals the one that the model lists first.
    """
    kept = max(0, min(top, len(worth)) - tried)
    rest = np.argsort(-worth[kept:], kind="stable") + kept
    return np.concatenate([np.arange(kept), rest])[:top]


def _share(counts: Floats) -> Floats:
    """Logarithms of counts, as shares of the largest; those below 0 are 0."""
    logs = np.log1p(np.maximum(counts, 0.0))
    return np.asarray(logs / max(float(logs.max(initial=0.0)), 1.0))
