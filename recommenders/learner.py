"""LightGBM on one participant's rows: one tree after the other, from gradients that are given to it."""

import ctypes
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel
from federation.exact_sum import INTEGERS
from recommenders.bins import Bins
from recommenders.boosting import BoostingConfig
from recommenders.collectives import Collectives
from recommenders.histograms import ROW, check_width
from recommenders.objectives import Floats
from recommenders.trees import STUMP, blocks
from recommenders.wire import Seat, call, network, probe


class Learner:
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
        self._scores = np.zeros(data.num_data())
        self._booster: lightgbm.Booster | None = None

    def tree(self, number: int, gradient: NDArray[np.float32]) -> tuple[str, Floats, Floats]:
        """The text of tree `number`, one leaf where nothing gains; the rows' scores before and after it."""
        booster = self._of(number)
        if self._collectives is not None:
            self._collectives.begin(number)
        try:
            stump = _update(booster, gradient, self._hessian)
        finally:
            if self._collectives is not None:
                self._collectives.check()
        before, self._scores = self._scores, _scores(booster, len(gradient))
        last = booster.current_iteration() - 1
        block = STUMP if stump else blocks(_text(booster, last))[0]
        return block, before, self._scores

    def _of(self, number: int) -> lightgbm.Booster:
        """LightGBM; a fresh one for each tree that samples features, by a seed of the tree's own.

        The state of the sampling generator is not in a model's text, and how often it is drawn from
        differs between the first tree of a booster and the next.
        """
        if self._booster is None or self._config.feature_fraction < 1.0:
            seed = {"feature_fraction_seed": _seed(self._config.seed, number)}
            self._booster = lightgbm.Booster(self._parameters | seed, self._data)
            self._booster.reset_parameter({"objective": "none"})  # as `Booster.update` does: it draws anew
            self._scores = np.zeros(self._data.num_data())
        return self._booster


@contextmanager
def learner(
    channel: Channel, data: lightgbm.Dataset, config: BoostingConfig, bins: Bins, threads: int
) -> Iterator[Learner]:
    """A learner of the cohort; raises `Refused` where its rows are too many for a word."""
    seat, parameters = Seat.at(channel), lightgbm_parameters(config, bins, threads)
    count = int(channel.sum("rows", np.array([data.num_data()]), INTEGERS)[0])
    check_width(config.bits, count)
    if seat.size == 1:
        yield Learner(data, config, parameters, None)
        return
    sizes = [data.feature_num_bin(place) for place in range(data.num_feature())]
    collectives = Collectives(channel, seat, probe(parameters), config.bits, count, sizes)
    with network(seat, collectives.callbacks):
        together = {"tree_learner": "data", "num_machines": seat.size}
        yield Learner(data, config, parameters | together, collectives)


def lightgbm_parameters(config: BoostingConfig, bins: Bins, threads: int) -> dict[str, Any]:
    """What LightGBM is told: nothing that is random, or that depends on a participant's own rows."""
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
        "max_cat_threshold": min(config.max_cat_threshold, bins.max_bin) if bins.categorical else 1,
        "min_data_per_group": config.min_data_per_group,
        "cat_smooth": config.cat_smooth,
        **bins.parameters,
    }


def _update(booster: lightgbm.Booster, gradient: NDArray[np.float32], hessian: NDArray[np.float32]) -> bool:
    """Grow a tree; whether it has no split.  `Booster.update` would copy all scores first."""
    assert gradient.size == hessian.size
    stump, floats = ctypes.c_int(), ctypes.POINTER(ctypes.c_float)
    pointers = (derivative.ctypes.data_as(floats) for derivative in (gradient, hessian))
    call("LGBM_BoosterUpdateOneIterCustom", booster._handle, *pointers, ctypes.byref(stump))
    return bool(stump.value)


def _text(booster: lightgbm.Booster, tree: int, size: int = 1 << 15) -> str:
    """A model of that tree alone.  `Booster.model_to_string` would clear a megabyte first."""
    text, length, room = ctypes.create_string_buffer(size), ctypes.c_int64(), ctypes.c_int64(size)
    pointers = ctypes.byref(length), text
    call("LGBM_BoosterSaveModelToString", booster._handle, tree, 1, 0, room, *pointers)
    return text.value.decode() if length.value <= size else _text(booster, tree, length.value)


def _scores(booster: lightgbm.Booster, rows: int) -> Floats:
    """The raw scores that LightGBM keeps of its rows: sums of its own outputs, not of our leaves."""
    scores, length = np.empty(rows), ctypes.c_int64()
    target = scores.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
    call("LGBM_BoosterGetPredict", booster._handle, 0, ctypes.byref(length), target)
    return scores


def _seed(seed: int, number: int) -> int:
    """A seed of its own for each tree: LightGBM's text does not hold the state of its generator."""
    digest = hashlib.sha256(f"features of tree {number}, seed {seed}".encode()).digest()
    return 1 + int.from_bytes(digest[:8], "little") % (2**31 - 2)
