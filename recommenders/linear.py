"""Linear regression by federated averaging: local epochs of mini-batch SGD, then the weighted mean.

The smallest learner that shows every part of a run (McMahan et al. 2017, algorithm 1 with a linear model).
Features are standardised with the consortium's mean and variance, so that one learning rate fits all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federation.averaging import Averaging, Parameters, contribution, initial_parameters, mean
from federation.channel import Channel, Vector
from federation.errors import Refused
from federation.exact_sum import INTEGERS, limbs, total
from federation.fixed_point import FixedPoint
from federation.frozen import Frozen
from federation.statistics import Standardisation

Rows = NDArray[np.float64]


class LinearConfig(Frozen):
    """A linear regression, how participants train it and how they are averaged."""

    features: Annotated[int, Field(ge=1, description="number of features")]
    epochs: Annotated[int, Field(ge=1, description="passes over the local rows in a round")] = 1
    batch_size: Annotated[int, Field(ge=1, description="rows of a mini-batch")] = 32
    learning_rate: Annotated[float, Field(gt=0, description="step along a mini-batch's gradient")] = 0.01
    averaging: Annotated[Averaging, Field(description="weights and limits of the mean")] = Averaging()
    pretrained: Annotated[
        tuple[float, ...] | None,
        Field(description="slopes, then the intercept, to start from; none: random ones"),
    ] = None


@dataclass(frozen=True)
class Examples:
    """A participant's standardised (n, d) features, (n,) targets, and the share that passed cleaning."""

    features: Rows
    targets: Rows
    passed: float = 1.0


@dataclass(frozen=True)
class Linear:
    """The `federation.averaging.Algorithm`; its state is the d slopes and the intercept, (d + 1,)."""

    config: LinearConfig

    def init(self, seed: int) -> Parameters:
        """Standard normal parameters, or the pre-trained ones."""
        pretrained = self.config.pretrained
        given = None if pretrained is None else np.array(pretrained)
        return initial_parameters(self.config.features + 1, seed, given)

    def update(self, state: Parameters, data: Examples, rng: np.random.Generator) -> Vector:
        """This participant's contribution: its trained parameters, weighted, and its weight."""
        weight = self.config.averaging.weight(len(data.targets), data.passed)
        return contribution(train(state, data, self.config, rng), weight)

    def form(self, terms: int) -> FixedPoint:
        """Wide enough for `terms` contributions within the limits of `config.averaging`."""
        return self.config.averaging.form(terms)

    def step(self, state: Parameters, aggregate: Vector) -> Parameters:
        """The weighted mean of the cohort's parameters."""
        return mean(aggregate)


def prepare(
    standardisation: Standardisation, columns: NDArray[Any], targets: NDArray[Any], passed: float = 1.0
) -> Examples:
    """Examples from raw (n, d) columns; a missing feature becomes the consortium's mean, 0.

    Raises `Refused` where rows and targets differ in number or a target is not finite.
    """
    features, targets = standardisation.apply(columns), np.asarray(targets, np.float64)
    if targets.shape != (len(features),) or not np.isfinite(targets).all():
        raise Refused(f"expected {len(features)} finite targets, found shape {targets.shape} or NaN")
    return Examples(np.where(np.isnan(features), 0.0, features), targets, passed)


def train(
    parameters: Parameters, data: Examples, config: LinearConfig, rng: np.random.Generator
) -> Parameters:
    """The parameters after `config.epochs` of mini-batch SGD on half the mean squared error."""
    parameters = parameters.copy()
    for batch in _batches(len(data.targets), config, rng):
        features = data.features[batch]
        error = predict(parameters, features) - data.targets[batch]
        gradient = np.append(error @ features, error.sum()) / len(batch)
        parameters -= config.learning_rate * gradient
    return parameters


def predict(parameters: Parameters, features: Rows) -> Rows:
    """(n,) predictions for standardised (n, d) features."""
    predicted: Rows = features @ parameters[:-1] + parameters[-1]
    return predicted


def mean_squared_error(channel: Channel, parameters: Parameters, data: Examples) -> float:
    """The mean squared error over all rows of the cohort, from one exact sum; NaN without rows."""
    squares = (predict(parameters, data.features) - data.targets) ** 2
    opened = channel.sum("evaluation/squares", np.append(limbs(squares), len(squares)), INTEGERS)
    return total(opened[:-1]) / int(opened[-1]) if opened[-1] else float("nan")


def _batches(rows: int, config: LinearConfig, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    for _ in range(config.epochs):
        order = rng.permutation(rows)
        for start in range(0, rows, config.batch_size):
            yield order[start : start + config.batch_size]
