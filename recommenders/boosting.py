"""How a boosted model is configured, what it is grown from, and what it is as it grows."""

from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from federation.errors import BadInput
from federation.frozen import Frozen
from recommenders.bins import Bins, Matrix, check_features
from recommenders.gradients import BOUND_BITS, Objective, check_labels
from recommenders.objectives import Floats, Integers
from recommenders.trees import model_text, moved_on, read_leaves, read_tree, require_sound, walk

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

Natural = Annotated[int, Field(ge=1, lt=1 << 31)]
"""What LightGBM keeps in 32 bits: of a larger number it would take a part, such as a floor of 1 row."""


class BoostingConfig(Frozen):
    """How trees are grown; the same for all participants."""

    objective: Objective = Field(
        default="lambdarank", description="what is minimised; rank_xendcg is refused"
    )
    trees: Annotated[int, Field(ge=1)] = Field(default=200, description="trees in all")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="part of a Newton step taken"
    )
    num_leaves: Annotated[int, Field(ge=2, le=4096)] = Field(default=31, description="most leaves of a tree")
    max_depth: Annotated[int, Field(ge=-1, lt=1 << 31)] = Field(
        default=-1, description="most splits above a leaf; -1 or 0: any"
    )
    min_data_in_leaf: Natural = Field(
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
    truncation: Natural = Field(default=30, description="lambdarank: places of a query whose order counts")
    gradient_bits: Annotated[int, Field(ge=1, le=20)] = Field(
        default=10, description="bits behind the point of the gradients that trees are grown on"
    )
    max_step: Annotated[float, Field(gt=0)] = Field(
        default=16.0, description="largest Newton step of a leaf, before the learning rate"
    )
    max_cat_to_onehot: Natural = Field(
        default=4, description="categories up to which each is split off by itself"
    )
    max_cat_threshold: Natural = Field(
        default=32, description="most categories on the smaller side of a split"
    )
    min_data_per_group: Natural = Field(default=100, description="least rows of a group of categories")
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
    """A participant's rows: features (n, f), NaN where missing; labels (n,); sizes of its queries.

    `weights` (n,), above 0 and up to 1, are what each row counts beside the others; all the same if none.
    """

    features: Matrix
    labels: Floats
    queries: Integers | None = None
    weights: Floats | None = None


class State(Frozen):
    """A model as it grows, with all that its next tree depends on."""

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

    def scores(self, features: Matrix) -> Floats:
        """Raw scores (n,) of `features` (n, f); for lambdarank the larger, the better."""
        return Scores(features).by(self)


class Scores:
    """Scores of the same rows by a model as it grows: each of its trees is asked once."""

    def __init__(self, features: Matrix) -> None:
        self._features = features
        self._trees, self._scores = tuple[str, ...](), np.zeros(len(features))

    def by(self, state: State) -> Floats:
        """Raw scores (n,): tree by tree, as LightGBM adds them."""
        check_features(self._features, len(state.bins.columns))
        if not state.trees:
            return np.full(len(self._features), state.start)
        if state.trees[: len(self._trees)] != self._trees:
            self._trees, self._scores = (), np.zeros(len(self._features))
        for text in state.trees[len(self._trees) :]:
            tree, outputs = read_tree(text), read_leaves(text)
            require_sound(tree, outputs, self._features.shape[1])
            self._scores = moved_on(self._scores, walk(tree, self._features), outputs)
        self._trees = state.trees
        return self._scores


def check_rows(rows: Rows, bins: Bins, config: BoostingConfig) -> None:
    """Raise `BadInput` for rows, bins and a configuration that do not belong together."""
    check_features(rows.features, len(bins.columns))
    if rows.labels.shape != (len(rows.features),):
        raise BadInput(f"{len(rows.features)} rows of features, labels of shape {rows.labels.shape}")
    _check_weights(rows, config.objective)
    if bins.max_bin != config.max_bin:
        raise BadInput(f"bins for max_bin {bins.max_bin}, the configuration has {config.max_bin}")
    check_labels(config.objective, rows.labels, rows.queries)


def _check_weights(rows: Rows, objective: Objective) -> None:
    """Up to 1, so that the bound of a gradient holds; lambdarank weighs its queries itself."""
    if rows.weights is None:
        return
    if objective == "lambdarank":
        raise BadInput("lambdarank: found weights of rows, expected none")
    if rows.weights.shape != rows.labels.shape:
        raise BadInput(f"{len(rows.labels)} rows, weights of shape {rows.weights.shape}")
    if not ((rows.weights > 0) & (rows.weights <= 1)).all():
        raise BadInput("weights: expected all above 0 and none above 1")
