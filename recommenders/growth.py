"""LightGBM grown by several organisations: the pooled model, through sums only.

Trees are grown by LightGBM's data-parallel learner on integer gradients and row counts.  Every sum is
then exact, so a tree does not depend on who holds which row, and it is the tree that LightGBM's serial
learner grows on the pooled rows (docs/lightgbm.md tells the one condition).  Leaves are set by a Newton
step from two more sums (Friedman 2001, section 4.4).
"""

import math
from fractions import Fraction
from typing import NamedTuple

import lightgbm
import numpy as np

from federation.channel import Channel
from federation.errors import BadInput
from federation.exact_sum import INTEGERS, exact, limbs, total
from federation.exact_sum import rounded as nearest
from federation.fixed_point import FixedPoint
from recommenders.bins import Bins
from recommenders.boosting import BoostingConfig, Rows, Scores, State, check_rows
from recommenders.gradients import LEAF_BITS, Objective, Rounded, derivatives, rounded
from recommenders.learner import learner, lightgbm_parameters
from recommenders.objectives import LN_2, Floats, Integers, log2
from recommenders.trees import Leaves, add_leaves, find_leaves, moved_on, read_leaves, set_leaves
from recommenders.wire import Seat


def begin(channel: Channel, rows: Rows, bins: Bins, config: BoostingConfig) -> State:
    """A model without trees: the consortium's own mean as start score, its deviation as scale.

    Both follow from exact sums; the first of the cohort computes them and tells all.
    """
    check_rows(rows, bins, config)
    start, scale = 0.0, 1.0
    if config.objective != "lambdarank":
        weight, mean, deviation = _moments(channel, rows, config.objective)
        first = Seat.at(channel).rank == 0
        start, scale = _start(config.objective, weight, mean, deviation) if first else (0.0, 0.0)
        told = channel.sum("start", limbs(np.array([[start, scale]])).ravel(), INTEGERS).reshape(2, -1)
        start, scale = total(told[0]), total(told[1])
    return State(objective=config.objective, bins=bins, start=start, scale=scale)


class Binned(NamedTuple):
    """Rows as LightGBM keeps them, and their scores by the trees so far."""

    data: lightgbm.Dataset
    scores: Scores


def binned(rows: Rows, bins: Bins, config: BoostingConfig, threads: int = 1) -> Binned:
    """`rows` made ready for `grow`, where it is called more than once on the same rows."""
    check_rows(rows, bins, config)
    data = bins.dataset(rows.features, lightgbm_parameters(config, bins, threads))
    return Binned(data, Scores(rows.features))


def grow(
    channel: Channel,
    rows: Rows,
    state: State,
    config: BoostingConfig,
    trees: int,
    threads: int = 1,
    data: Binned | None = None,
) -> State:
    """`state` with `trees` more trees; the same text as if growing had never stopped.

    Every participant calls it with the same state, configuration and number.  A cohort of one uses
    LightGBM's serial learner: on pooled rows that is the model of the consortium.
    `data` are `rows` already `binned`, for who has them.  Raises `Refused` where a word is too narrow, and
    what the channel raises; the model of a tree that broke off is nowhere.
    """
    check_rows(rows, state.bins, config)
    if state.objective != config.objective:
        raise BadInput(f"a model of {state.objective} cannot go on as {config.objective}")
    data = binned(rows, state.bins, config, threads) if data is None else data
    derive = derivatives(
        config.objective, rows.labels, rows.queries, state.scale, config.truncation, rows.weights
    )
    scores, grown, clipped = data.scores.by(state), list(state.trees), state.clipped
    with learner(channel, data.data, config, state.bins, threads) as mine:
        for number in range(len(grown), len(grown) + trees):
            integers = rounded(config.objective, config.gradient_bits, *derive(scores))
            block, before, after = mine.tree(number, integers.growth)
            leaf = find_leaves(block, before, after, rows.features)
            sums = _leaf_sums(channel, number, leaf, integers, len(read_leaves(block)))
            values = _steps(sums, config, state.scale) + (state.start if number == 0 else 0.0)
            scores = moved_on(scores if number else np.zeros_like(scores), leaf, values)
            grown.append(set_leaves(block, values))
            clipped += int(sums[-1])
    return state.model_copy(update={"trees": tuple(grown), "clipped": clipped})


def _leaf_sums(channel: Channel, number: int, leaf: Leaves, integers: Rounded, leaves: int) -> Integers:
    """Summed over the cohort: gradients by leaf, hessians by leaf, what was clipped."""
    sums = np.zeros(2 * leaves + 1, np.int64)
    add_leaves(leaf, integers.gradient, integers.hessian, sums)
    sums[-1] = integers.clipped
    form = FixedPoint(width=64, fraction_bits=0, terms=len(channel.cohort))
    return channel.sum(f"tree/{number}/leaves", sums, form)


def _steps(sums: Integers, config: BoostingConfig, scale: float) -> Floats:
    """The Newton step of each leaf, with +, x and / only: the same on every processor."""
    gradient, hessian = sums[:-1].reshape(2, -1) / 2.0**LEAF_BITS
    weight = hessian + config.lambda_l2
    step = np.divide(-gradient, weight, out=np.zeros_like(weight), where=weight > 0)
    step = np.clip(step, -config.max_step, config.max_step) * config.learning_rate
    step *= scale if config.objective == "regression" else 1.0
    return np.asarray(step, np.float64)


def _moments(channel: Channel, rows: Rows, objective: Objective) -> tuple[Fraction, float, float]:
    """Weight, mean and deviation of the consortium's labels; labels of 0 and 1 need no deviation.

    What is squared is what the mean leaves: squares of labels far from 0 are rounded by more than that.
    """
    weights = np.ones_like(rows.labels) if rows.weights is None else rows.weights
    weight, labels = _totals(channel, "labels", weights, weights * rows.labels)
    mean = nearest(labels / weight)
    if objective == "binary":
        return weight, mean, 0.0
    (squares,) = _totals(channel, "squares", weights * (rows.labels - mean) ** 2)
    return weight, mean, math.sqrt(nearest(squares / weight))


def _totals(channel: Channel, name: str, *columns: Floats) -> list[Fraction]:
    """The consortium's exact sum of each column."""
    digits = limbs(np.stack(columns, axis=1))
    opened = channel.sum(name, digits.ravel(), INTEGERS).reshape(digits.shape)
    return [exact(each) for each in opened]


def _start(objective: Objective, weight: Fraction, mean: float, deviation: float) -> tuple[float, float]:
    """Start score and scale of labels."""
    least = nearest(min(1 / (2 * weight), Fraction(1, 2)))
    if objective == "binary":
        share = min(max(mean, least), 1.0 - least)
        return log2(share / (1.0 - share)) * LN_2, 1.0
    if objective == "poisson":
        return log2(max(mean, least)) * LN_2, mean + deviation or 1.0
    return mean, deviation or 1.0
