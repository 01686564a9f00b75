"""LightGBM grown by several organisations: the pooled model, through sums only.

Trees are grown by LightGBM's data-parallel learner on integer gradients and row counts.  Every sum is
then exact, so a tree does not depend on who holds which row, and it is the tree that LightGBM's serial
learner grows on the pooled rows (docs/lightgbm.md tells the one condition).  Leaves are set by a Newton
step from two more sums (Friedman 2001, section 4.4).
"""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel
from federation.errors import BadInput
from federation.exact_sum import INTEGERS, exact, limbs, total
from federation.exact_sum import rounded as nearest
from federation.fixed_point import FixedPoint
from recommenders.bins import Bins
from recommenders.boosting import BoostingConfig, Rows, State, check_rows
from recommenders.collectives import Collectives, Seat, network, probe
from recommenders.gradients import LEAF_BITS, Floats, Integers, Objective, Rounded, derivatives, rounded
from recommenders.histograms import ROW, check_width
from recommenders.trees import STUMP, add_leaves, blocks, read_tree, set_leaves, walk

ALONE = Seat(rank=0, size=1)


def begin(channel: Channel, rows: Rows, bins: Bins, config: BoostingConfig, seat: Seat = ALONE) -> State:
    """A model without trees: the consortium's own mean as start score, its deviation as scale.

    Both follow from exact sums; the first of the cohort computes them and tells all.
    """
    check_rows(rows, bins, config)
    start, scale = 0.0, 1.0
    if config.objective != "lambdarank":
        count, labels, squares = _moments(channel, rows.labels)
        start, scale = _start(config.objective, count, labels, squares) if seat.rank == 0 else (0.0, 0.0)
        told = channel.sum("start", limbs(np.array([[start, scale]])).ravel(), INTEGERS).reshape(2, -1)
        start, scale = total(told[0]), total(told[1])
    return State(objective=config.objective, bins=bins, start=start, scale=scale)


def binned(rows: Rows, bins: Bins, config: BoostingConfig, threads: int = 1) -> lightgbm.Dataset:
    """`rows` as LightGBM keeps them; for `grow`, where it is called more than once on the same rows."""
    check_rows(rows, bins, config)
    return bins.dataset(rows.features, _parameters(config, bins, threads))


def grow(
    channel: Channel,
    rows: Rows,
    state: State,
    config: BoostingConfig,
    trees: int,
    seat: Seat = ALONE,
    threads: int = 1,
    data: lightgbm.Dataset | None = None,
    scores: Floats | None = None,
) -> State:
    """`state` with `trees` more trees; the same text as if growing had never stopped.

    Every participant calls it with the same state, configuration and number, and its own `seat`.  A
    cohort of one uses LightGBM's serial learner: on pooled rows that is the model of the consortium.
    `data` are `rows` already `binned`, `scores` those of `state`, for who has them.  Raises `Refused` where
    a word is too narrow, and what the channel raises; the model of a tree that broke off is nowhere.
    """
    check_rows(rows, state.bins, config)
    if state.objective != config.objective:
        raise BadInput(f"a model of {state.objective} cannot go on as {config.objective}")
    data = binned(rows, state.bins, config, threads) if data is None else data
    derive = derivatives(config.objective, rows.labels, rows.queries, state.scale, config.truncation)
    scores = state.scores(rows.features, threads) if scores is None else scores
    grown, clipped = list(state.trees), state.clipped
    with _learner(channel, data, config, _parameters(config, state.bins, threads), seat) as learner:
        for number in range(len(grown), len(grown) + trees):
            integers = rounded(config.objective, config.gradient_bits, *derive(scores))
            block = learner.tree(number, integers.growth)
            leaf, sums = _leaves(channel, block, number, rows, integers, seat)
            values = _steps(sums, config, state.scale) + (state.start if number == 0 else 0.0)
            scores = values[leaf] + (scores if number else 0.0)
            grown.append(set_leaves(block, values))
            clipped += int(sums[-1])
    return state.model_copy(update={"trees": tuple(grown), "clipped": clipped})


class _Learner:
    """LightGBM on one participant's rows, alone or behind its collectives."""

    def __init__(
        self,
        data: lightgbm.Dataset,
        config: BoostingConfig,
        parameters: dict[str, Any],
        collectives: Collectives | None,
    ) -> None:
        self._data, self._config, self._parameters = data, config, parameters
        self._collectives = collectives
        self._hessian = np.full(data.num_data(), ROW, np.float32)
        self._booster: lightgbm.Booster | None = None

    def tree(self, number: int, gradient: NDArray[np.float32]) -> str:
        """The text of tree `number`; one leaf where no split has gain."""
        booster = self._of(number)
        if self._collectives is not None:
            self._collectives.begin(number)
        try:
            stump = booster.update(fobj=lambda *_: (gradient, self._hessian))
        finally:
            if self._collectives is not None:
                self._collectives.check()
        last = booster.current_iteration() - 1
        return STUMP if stump else blocks(booster.model_to_string(num_iteration=1, start_iteration=last))[0]

    def _of(self, number: int) -> lightgbm.Booster:
        """LightGBM; a fresh one for each tree that samples features, by a seed of the tree's own.

        The state of the sampling generator is not in a model's text, and how often it is drawn from
        differs between the first tree of a booster and the next.
        """
        if self._booster is None or self._config.feature_fraction < 1.0:
            seed = {"feature_fraction_seed": _seed(self._config.seed, number)}
            self._booster = lightgbm.Booster(self._parameters | seed, self._data)
        return self._booster


@contextmanager
def _learner(
    channel: Channel, data: lightgbm.Dataset, config: BoostingConfig, parameters: dict[str, Any], seat: Seat
) -> Iterator[_Learner]:
    count = int(channel.sum("rows", np.array([data.num_data()]), INTEGERS)[0])
    check_width(config.bits, count, seat.size)
    if seat.size == 1:
        yield _Learner(data, config, parameters, None)
        return
    collectives = Collectives(channel, seat, probe(parameters), config.bits, count)
    with network(seat, collectives.callbacks):
        together = {"tree_learner": "data", "num_machines": seat.size}
        yield _Learner(data, config, parameters | together, collectives)


def _leaves(
    channel: Channel, block: str, number: int, rows: Rows, integers: Rounded, seat: Seat
) -> tuple[NDArray[np.int32], Integers]:
    """Each row's leaf; and summed over the cohort: gradients by leaf, hessians by leaf, what was clipped."""
    tree = read_tree(block)
    leaf = walk(tree, rows.features)
    sums = np.zeros(2 * tree.leaves + 1, np.int64)
    add_leaves(leaf, integers.gradient, integers.hessian, sums)
    sums[-1] = integers.clipped
    form = FixedPoint(width=64, fraction_bits=0, terms=seat.size)
    return leaf, channel.sum(f"tree/{number}/leaves", sums, form)


def _steps(sums: Integers, config: BoostingConfig, scale: float) -> Floats:
    """The Newton step of each leaf, with +, x and / only: the same on every processor."""
    gradient, hessian = sums[:-1].reshape(2, -1) / 2.0**LEAF_BITS
    weight = hessian + config.lambda_l2
    step = np.divide(-gradient, weight, out=np.zeros_like(weight), where=weight > 0)
    step = np.clip(step, -config.max_step, config.max_step) * config.learning_rate
    step *= scale if config.objective == "regression" else 1.0
    return np.asarray(step, np.float64)


def _parameters(config: BoostingConfig, bins: Bins, threads: int) -> dict[str, Any]:
    return {
        "objective": "none",
        "boost_from_average": False,
        "learning_rate": 1.0,
        "lambda_l2": 0.0,
        "cat_l2": 0.0,
        "min_sum_hessian_in_leaf": 0.0,
        "deterministic": True,
        "force_row_wise": config.feature_fraction == 1.0,
        "force_col_wise": config.feature_fraction < 1.0,
        "num_threads": threads,
        "num_leaves": config.num_leaves,
        "max_depth": config.max_depth,
        "min_data_in_leaf": config.min_data_in_leaf,
        "feature_fraction": config.feature_fraction,
        "max_cat_to_onehot": config.max_cat_to_onehot,
        "max_cat_threshold": config.max_cat_threshold if bins.categorical else 1,
        "min_data_per_group": config.min_data_per_group,
        "cat_smooth": config.cat_smooth,
        **bins.parameters,
    }


def _seed(seed: int, number: int) -> int:
    """A seed of its own for each tree: LightGBM's text does not hold the state of its generator."""
    digest = hashlib.sha256(f"features of tree {number}, seed {seed}".encode()).digest()
    return 1 + int.from_bytes(digest[:8], "little") % (2**31 - 2)


def _moments(channel: Channel, labels: Floats) -> tuple[int, Fraction, Fraction]:
    """Rows, sum and sum of squares of the consortium's labels, exactly."""
    digits = limbs(np.stack([np.ones_like(labels), labels, labels * labels], axis=1))
    opened = channel.sum("labels", digits.ravel(), INTEGERS).reshape(digits.shape)
    count, first, second = (exact(row) for row in opened)
    return int(count), first, second


def _start(objective: Objective, count: int, labels: Fraction, squares: Fraction) -> tuple[float, float]:
    """Start score and scale of labels."""
    mean = labels / count
    deviation = math.sqrt(max(nearest(squares / count - mean * mean), 0.0))
    if objective == "binary":
        share = min(max(nearest(mean), 0.5 / count), 1.0 - 0.5 / count)
        return math.log(share / (1.0 - share)), 1.0
    if objective == "poisson":
        return math.log(max(nearest(mean), 0.5 / count)), nearest(mean) + deviation or 1.0
    return nearest(mean), deviation or 1.0
