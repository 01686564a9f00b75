"""Federated averaging: everybody trains from the same parameters, and the weighted mean goes on.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data".
A participant says weight * parameters and, in the same vector, its weight: the sum holds all that the
mean needs, and opens the consortium's weight, never a participant's.
"""

import math
from typing import Annotated, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federation.channel import Channel, Vector
from federation.errors import Refused
from federation.fixed_point import FixedPoint
from federation.frozen import Frozen

Weighting = Literal["equal", "rows", "quality"]
Parameters = NDArray[np.float64]
State = TypeVar("State")
Data = TypeVar("Data", contravariant=True)


class Algorithm(Protocol[State, Data]):
    """What is learned: pure functions from state to state, with one sum between them."""

    def init(self, seed: int) -> State:
        """The state before the first round; the same for the same seed."""
        ...

    def update(self, state: State, data: Data, rng: np.random.Generator) -> Vector:
        """A participant's term after it has trained on its `data` from `state`."""
        ...

    def form(self, terms: int) -> FixedPoint:
        """How that vector travels in a sum of at most `terms`."""
        ...

    def step(self, state: State, aggregate: Vector) -> State:
        """The next state, from the opened sum of the terms."""
        ...


class Averaging(Frozen):
    """How participants weigh in a mean, and the limits from which its fixed point is derived."""

    weighting: Annotated[
        Weighting,
        Field(description="equal; by rows; or by quality: rows times the share of rows that passed cleaning"),
    ] = "rows"
    bound: Annotated[float, Field(gt=0, description="largest magnitude of a parameter")] = 256.0
    most_rows: Annotated[int, Field(ge=1, description="most rows of one participant")] = 1 << 24

    def weight(self, rows: int, passed: float = 1.0) -> float:
        """A participant's weight; `passed` is the share of its rows that passed cleaning."""
        if not (0 <= rows <= self.most_rows and 0 <= passed <= 1):
            raise Refused(f"expected 0 to {self.most_rows} rows and a share that passed cleaning in [0, 1]")
        return {"equal": 1.0, "rows": float(rows), "quality": rows * passed}[self.weighting]

    def form(self, terms: int) -> FixedPoint:
        """The finest fixed point in which no sum of `terms` contributions can overflow.

        With weight w <= W and |parameter| <= B a contribution is at most W * max(B, 1), and the word has
        room for `terms` of them and the rounding.  Raises `Refused` where nothing is left of a fraction.
        """
        heaviest = 1.0 if self.weighting == "equal" else float(self.most_rows)
        most = math.ceil(heaviest * max(self.bound, 1.0)) + 1
        fraction_bits = min(64, ((1 << 63) // (terms * most)).bit_length() - 1)
        if fraction_bits < 1:
            raise Refused(f"64 bits have no room for {terms} contributions of up to {most}")
        return FixedPoint(width=64, fraction_bits=fraction_bits, terms=terms, signed=True)

    def resolution(self, terms: int, total_weight: float) -> float:
        """How far a mean with this total weight may be from the exact one, float64 aside."""
        half_a_unit = 2.0 ** -(self.form(terms).fraction_bits + 1)
        return (1 + self.bound) * terms * half_a_unit / total_weight


def contribution(parameters: Parameters, weight: float) -> Vector:
    """A participant's term: (d + 1,), `weight` times the (d,) parameters, then the weight."""
    if not (math.isfinite(weight) and weight >= 0):
        raise Refused("a weight is a finite number, at least 0")
    return np.append(np.asarray(parameters, np.float64) * weight, weight)


def mean(total: Vector) -> Parameters:
    """The weighted mean of the parameters in a sum of contributions; raises `Refused` if nobody weighs."""
    if not total[-1] > 0:
        raise Refused("nobody had a row to learn from: the weights sum to 0")
    parameters: Parameters = total[:-1] / total[-1]
    return parameters


def initial_parameters(size: int, seed: int, pretrained: Parameters | None = None) -> Parameters:
    """theta_0: standard normal from `seed`, or a copy of `pretrained`, which must have this size."""
    if pretrained is None:
        return np.random.default_rng(seed).standard_normal(size)
    if np.shape(pretrained) != (size,):
        raise Refused(f"expected {size} pre-trained parameters, found shape {np.shape(pretrained)}")
    return np.array(pretrained, np.float64)


def train_round(
    algorithm: Algorithm[State, Data],
    state: State,
    data: Data,
    channel: Channel,
    rng: np.random.Generator,
    terms: int,
) -> State:
    """One round as a participant sees it: train, add, step; all of the cohort return the same state."""
    vector = algorithm.update(state, data, rng)
    return algorithm.step(state, channel.sum("update", vector, algorithm.form(terms)))
