"""LightGBM grown by several organisations: the pooled model, through sums only.

Trees are grown by LightGBM's data-parallel learner on integer gradients and row counts.  Every sum is
then exact, so a tree does not depend on who holds which row, and it is the tree that LightGBM's serial
learner grows on the pooled rows (docs/lightgbm.md tells the one condition).  Leaves are set by a Newton
step from two more sums (Friedman 2001, section 4.4).
"""

import hashlib
import math
from contextlib import ExitStack
from fractions import Fraction
from typing import Annotated, Any, NamedTuple

import lightgbm
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from federation.channel import Channel
from federation.errors import BadInput
from federation.exact_sum import INTEGERS, exact, limbs, total
from federation.exact_sum import rounded as nearest
from federation.fixed_point import FixedPoint
from recommenders.bins import Bins, Matrix, check_features
from recommenders.collectives import Collectives, Seat, network, probe
from recommenders.gradients import (
    BOUND_BITS,
    LEAF_BITS,
    Floats,
    Integers,
    Objective,
    Rounded,
    check_labels,
    derivatives,
    rounded,
)
from recommenders.histograms import ROW, check_width
from recommenders.trees import STUMP, add_leaves, blocks, model_text, read_tree, set_leaves, walk

ALONE = Seat(rank=0, size=1)

_INEXACT = {
    "bagging_fraction": "samples rows by their local index",
    "bagging_freq": "samples rows by their local index",
    "data_sample_strategy": "GOSS samples rows by their local index",
    "feature_fraction_bynode": "changes the histograms' layout within a tree",
    "cat_l2": "makes the serial learner prune features that the parallel one tries",
    "lambda_l1": "makes the serial learner prune features that the parallel one tries",
    "early_stopping_round": "stops each participant by its own rows; stop on the consortium's metric",
    "use_quantized_grad": "fails in LightGBM's data-parallel training",
    "extra_trees": "draws thresholds by the local state of a generator",
}


class BoostingConfig(BaseModel):
    """How trees are grown; the same for all participants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Objective = Field(
        default="lambdarank", description="what is minimised; rank_xendcg is refused"
    )
    trees: Annotated[int, Field(ge=1)] = Field(default=200, description="trees in all")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="part of a Newton step taken"
    )
    num_leaves: Annotated[int, Field(ge=2, le=4096)] = Field(default=31, description="most leaves of a tree")
    max_depth: Annotated[int, Field(ge=-1)] = Field(
        default=-1, description="most splits above a leaf; -1: any"
    )
    min_data_in_leaf: Annotated[int, Field(ge=1)] = Field(
        default=20, description="consortium's rows below which no leaf forms; counted, not estimated"
    )
    lambda_l2: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="added to the hessian of a leaf when its value is set; trees are grown without",
    )
    max_bin: Annotated[int, Field(ge=4, le=255)] = Field(default=255, description="most bins of a feature")
    feature_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="part of the features that a tree may use, drawn by the tree's number"
    )
    truncation: Annotated[int, Field(ge=1)] = Field(
        default=30, description="lambdarank: places of a query whose order counts"
    )
    gradient_bits: Annotated[int, Field(ge=1, le=20)] = Field(
        default=10, description="bits behind the point of the gradients that trees are grown on"
    )
    max_step: Annotated[float, Field(gt=0)] = Field(
        default=16.0, description="largest Newton step of a leaf, before the learning rate"
    )
    max_cat_to_onehot: Annotated[int, Field(ge=1)] = Field(
        default=4, description="categories up to which each is split off by itself"
    )
    max_cat_threshold: Annotated[int, Field(ge=1)] = Field(
        default=32, description="most categories on the smaller side of a split"
    )
    min_data_per_group: Annotated[int, Field(ge=1)] = Field(
        default=100, description="least rows of a group of categories"
    )
    cat_smooth: Annotated[float, Field(ge=0)] = Field(
        default=10.0, description="rows below which a category is not split off by its gradient"
    )
    seed: int = Field(default=1, description="seed of the features' sampling")

    @model_validator(mode="before")
    @classmethod
    def _exact_only(cls, given: Any) -> Any:
        if isinstance(given, dict):
            for name in _INEXACT.keys() & given.keys():
                raise ValueError(f"{name} is refused: {_INEXACT[name]}")
            if given.get("objective") in ("rank_xendcg", "xendcg"):
                raise ValueError("rank_xendcg is refused: it draws by the local index of a query")
        return given

    @property
    def bits(self) -> int:
        """Bits of the largest integer gradient."""
        return self.gradient_bits + BOUND_BITS[self.objective]


class Rows(NamedTuple):
    """A participant's rows: features (n, f), NaN where missing; labels (n,); sizes of its queries."""

    features: Matrix
    labels: Floats
    queries: Integers | None = None


class State(BaseModel):
    """A model as it grows, with all that its next tree depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Objective = Field(description="what is minimised")
    bins: Bins = Field(description="what all participants bin by")
    start: float = Field(description="score before the first tree")
    scale: Annotated[float, Field(gt=0)] = Field(description="labels are divided by it")
    trees: tuple[str, ...] = Field(default=(), description="LightGBM's text of each tree")
    clipped: int = Field(
        default=0, description="derivatives beyond the objective's bound so far, in the consortium"
    )

    @property
    def text(self) -> str:
        """The model as LightGBM reads it; it takes raw feature values."""
        return model_text(self.trees, self.bins, self.objective)

    def scores(self, features: Matrix, threads: int = 1) -> Floats:
        """Raw scores (n,) of `features` (n, f); for lambdarank the larger, the better."""
        check_features(features, len(self.bins.columns))
        if not self.trees:
            return np.full(len(features), self.start)
        booster = lightgbm.Booster(model_str=self.text)
        return np.asarray(booster.predict(features, raw_score=True, num_threads=threads), np.float64)


def begin(channel: Channel, rows: Rows, bins: Bins, config: BoostingConfig, seat: Seat = ALONE) -> State:
    """A model without trees: the consortium's own mean as start score, its deviation as scale.

    Both follow from exact sums; the first of the cohort computes them and tells all.
    """
    _check(rows, bins, config)
    start, scale = 0.0, 1.0
    if config.objective != "lambdarank":
        count, labels, squares = _moments(channel, rows.labels)
        start, scale = _start(config.objective, count, labels, squares) if seat.rank == 0 else (0.0, 0.0)
        told = channel.sum("start", limbs(np.array([[start, scale]])).ravel(), INTEGERS).reshape(2, -1)
        start, scale = total(told[0]), total(told[1])
    return State(objective=config.objective, bins=bins, start=start, scale=scale)


def grow(
    channel: Channel,
    rows: Rows,
    state: State,
    config: BoostingConfig,
    trees: int,
    seat: Seat = ALONE,
    threads: int = 1,
) -> State:
    """`state` with `trees` more trees; the same text as if growing had never stopped.

    Every participant calls it with the same state, configuration and number, and its own `seat`.  A
    cohort of one uses LightGBM's serial learner: on pooled rows that is the model of the consortium.
    Raises `Refused` where a word is too narrow, and what the channel raises.
    """
    _check(rows, state.bins, config)
    if state.objective != config.objective:
        raise BadInput(f"a model of {state.objective} cannot go on as {config.objective}")
    count = int(channel.sum("rows", np.array([len(rows.labels)]), INTEGERS)[0])
    check_width(config.bits, count, seat.size)
    parameters = _parameters(config, state.bins, threads)
    data = state.bins.dataset(rows.features, parameters)
    with ExitStack() as stack:
        collectives = None
        if seat.size > 1:
            collectives = Collectives(channel, seat, probe(parameters), config.bits, count)
            stack.enter_context(network(seat, collectives.callbacks))
            parameters |= {"tree_learner": "data", "num_machines": seat.size}
        booster = lightgbm.Booster(parameters, data)
        return _grow(channel, rows, state, config, trees, seat, booster, collectives)


def _grow(
    channel: Channel,
    rows: Rows,
    state: State,
    config: BoostingConfig,
    trees: int,
    seat: Seat,
    booster: lightgbm.Booster,
    collectives: Collectives | None,
) -> State:
    derive = derivatives(config.objective, rows.labels, rows.queries, state.scale, config.truncation)
    scores, hessian = state.scores(rows.features), np.full(len(rows.labels), ROW, np.float32)
    grown, clipped = list(state.trees), state.clipped
    form = FixedPoint(width=64, fraction_bits=0, terms=seat.size)
    for number in range(len(grown), len(grown) + trees):
        integers = rounded(config.objective, config.gradient_bits, *derive(scores))
        block = _grow_tree(booster, collectives, integers.growth, hessian, number, config)
        tree = read_tree(block)
        leaf = walk(tree, rows.features)
        sums = channel.sum(f"tree/{number}/leaves", _leaf_sums(leaf, tree.leaves, integers), form)
        values = _steps(sums, config, state.scale) + (state.start if number == 0 else 0.0)
        scores = values[leaf] + (scores if number else 0.0)
        grown.append(set_leaves(block, values))
        clipped += int(sums[-1])
    return state.model_copy(update={"trees": tuple(grown), "clipped": clipped})


def _grow_tree(
    booster: lightgbm.Booster,
    collectives: Collectives | None,
    gradient: NDArray[np.float32],
    hessian: NDArray[np.float32],
    number: int,
    config: BoostingConfig,
) -> str:
    """The text of tree `number`; one leaf where no split has gain."""
    if config.feature_fraction < 1.0:
        booster.reset_parameter({"feature_fraction_seed": _seed(config.seed, number)})
    if collectives is not None:
        collectives.begin(number)
    try:
        stump = booster.update(fobj=lambda *_: (gradient, hessian))
    finally:
        if collectives is not None:
            collectives.check()
    if stump:
        return STUMP
    return blocks(booster.model_to_string(num_iteration=1, start_iteration=booster.current_iteration() - 1))[
        0
    ]


def _leaf_sums(leaf: NDArray[np.int32], leaves: int, integers: Rounded) -> Integers:
    """Gradients of each leaf, hessians of each leaf, and what was clipped."""
    sums = np.zeros(2 * leaves + 1, np.int64)
    add_leaves(leaf, integers.gradient, integers.hessian, sums)
    sums[-1] = integers.clipped
    return sums


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
        "force_row_wise": True,
        "num_threads": threads,
        "feature_fraction_seed": 0,
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


def _check(rows: Rows, bins: Bins, config: BoostingConfig) -> None:
    check_features(rows.features, len(bins.columns))
    if rows.labels.shape != (len(rows.features),):
        raise BadInput(f"{len(rows.features)} rows of features, labels of shape {rows.labels.shape}")
    if bins.max_bin != config.max_bin:
        raise BadInput(f"bins for max_bin {bins.max_bin}, the configuration has {config.max_bin}")
    check_labels(config.objective, rows.labels, rows.queries)


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
