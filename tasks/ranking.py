"""A participant's part in growing the ranker, and the one that it grows alone, for comparison.

Growing with the others is lockstep: every histogram is a sum over the cohort, and all hold the same trees.
"""

import json
import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel, Solo
from federation.files import write_json
from federation.stopping import Decision, StopRule, decide
from recommenders import bins
from recommenders.boosting import Rows, Scores, State
from recommenders.explain import contributions, mean_contributions
from recommenders.growth import begin, binned, grow
from recommenders.interpolation import Interpolated, choose_share
from recommenders.metrics import SUMS, metric_sums, metrics, per_query
from recommenders.two_stage import TwoStage
from tasks.model import ModelConfig
from tasks.room import Room
from tasks.tables import ALONE, TOGETHER, Table, read_table, training

EXPLAINED = 2000
"""Rows of a participant that its Shapley values are taken over."""


def grow_together(
    room: Room, run: str, number: int, part: int, trees: int, state: State | None, channel: Channel
) -> dict[str, Any]:
    """`trees` more trees on everybody's rows before `part`; in round 0 also the figures of validation.

    What it returns follows from sums, and is the same at every participant.
    """
    top = room.membership.model.top
    grown = _under_way(room, run, number, part).grow(channel, state, trees)
    told: dict[str, Any] = {"state": grown.model_dump(), "clipped": grown.clipped}
    if number == 0:
        table, scores = _judges(room, run, part)
        lists = table.top(scores.by(grown), top)
        told["overall"] = metrics(channel.sum("metrics", metric_sums(lists, table.queries), SUMS), top)
    return told


class Grower:
    """Grows trees from the same rows, step by step: they are binned once, and scored once by each tree."""

    def __init__(self, rows: Rows, model: ModelConfig) -> None:
        self._rows, self._model, self._settings = rows, model, model.two_stage.boosting
        self._binned = lru_cache(maxsize=1)(lambda agreed: binned(rows, agreed, self._settings))

    def grow(self, channel: Channel, state: State | None, trees: int) -> State:
        """The state with `trees` more; where there is none, the cohort agrees on bins first."""
        if state is None:
            names, most = self._model.features, self._settings.max_bin
            agreed = bins.agree(channel, self._rows.features, names, max_bin=most)
            state = begin(channel, self._rows, agreed, self._settings)
        return grow(channel, self._rows, state, self._settings, trees, data=self._binned(state.bins))


@lru_cache(maxsize=1)
def _under_way(room: Room, run: str, number: int, part: int) -> Grower:
    """What grows the consortium's trees from step to step of a round."""
    return Grower(training(room, run, number, TOGETHER, range(1, part)), room.membership.model)


@lru_cache(maxsize=1)
def _judges(room: Room, run: str, part: int) -> tuple[Table, Scores]:
    """The rows of the validation, and their scores by the trees so far."""
    table = read_table(room, run, 0, TOGETHER, part)
    return table, Scores(table.features.astype(np.float64))


def let_go() -> None:
    """Drop what was held from step to step: it grows with the rows."""
    _under_way.cache_clear()
    _judges.cache_clear()


def personal(room: Room, run: str, number: int, part: int, common: State) -> Interpolated:
    """The consortium's ranker with own trees beside it; their share is chosen in round 0, by validation."""
    rows, path = training(room, run, number, TOGETHER, range(1, part)), room.work(run, 0) / "own-share.json"
    model = room.membership.model
    ranker = with_own(common, rows, model)
    if number == 0:
        ranker = share_by(ranker, read_table(room, run, number, TOGETHER, part), model)
        write_json(path, {"share": ranker.share})
    elif path.is_file():
        ranker = ranker.model_copy(update=json.loads(path.read_text()))
    return ranker


def with_own(common: State, rows: Rows, model: ModelConfig) -> Interpolated:
    """`common` beside as many trees of the own `rows`, in the share that holds unless another is better."""
    own = Grower(rows, model).grow(Solo(), None, len(common.trees)) if len(rows.labels) else None
    return Interpolated(common=common, own=own, share=model.two_stage.own_shares[0])


def share_by(ranker: Interpolated, table: Table, model: ModelConfig) -> Interpolated:
    """`ranker` with the share that the queries of `table` like best."""
    shares = model.two_stage.own_shares
    features = table.features.astype(np.float64)
    scores = ranker.common.scores(features), ranker.own and ranker.own.scores(features)
    tried = [ranker.model_copy(update={"share": share}).mixed(*scores) for share in shares]
    quality = [per_query(table.top(each, model.top), table.queries)[:, 0] for each in tried]
    return ranker.model_copy(update={"share": choose_share(np.array(quality), shares)})


def explain(
    room: Room, run: str, number: int, part: int, ranker: State, channel: Channel
) -> dict[str, float]:
    """The consortium's mean |Shapley value| of each feature, over at most `EXPLAINED` rows of each."""
    features = read_table(room, run, number, TOGETHER, part).features
    some = features[:: max(1, math.ceil(len(features) / EXPLAINED))].astype(np.float64)
    return mean_contributions(ranker, channel.sum("shapley values", contributions(ranker, some), SUMS))


def grow_alone(room: Room, run: str, number: int, part: int) -> State | None:
    """The ranker on the own rows before `part`, with as many trees as its validation likes best.

    None where there were no such rows to choose by.
    """
    model, kept = room.membership.model, room.work(run, 0) / "alone.json"
    rows = training(room, run, number, ALONE, range(1, part))
    if not len(rows.labels) or (number == 1 and not kept.is_file()):
        return None
    grower = Grower(rows, model)
    if number == 1:
        return grower.grow(Solo(), None, json.loads(kept.read_text())["trees"])
    table, state, history = read_table(room, run, number, ALONE, part), None, list[float]()
    scores = Scores(table.features.astype(np.float64))
    while not (decision := stopping(history, model.two_stage)).stop:
        state = grower.grow(Solo(), state, next_trees(len(history), model.two_stage))
        lists = table.top(scores.by(state), model.top)
        history.append(float(per_query(lists, table.queries)[:, 0].mean()))
    trees = best_trees(decision, model.two_stage)
    write_json(kept, {"trees": trees})
    assert state is not None
    return state.model_copy(update={"trees": state.trees[:trees]})


def stopping(history: list[float], settings: TwoStage) -> Decision:
    """Whether to go on growing, by the NDCG after each federated round."""
    most = math.ceil(settings.boosting.trees / settings.trees_per_round)
    return decide(history, StopRule(maximum_rounds=most, patience=settings.patience))


def best_trees(decision: Decision, settings: TwoStage) -> int:
    """How many trees were best."""
    return min((max(decision.best_round, 0) + 1) * settings.trees_per_round, settings.boosting.trees)


def next_trees(steps: int, settings: TwoStage) -> int:
    """How many trees the step after `steps` others grows."""
    return min(settings.trees_per_round, settings.boosting.trees - steps * settings.trees_per_round)


def ranked(table: Table, ranker: State | Interpolated, k: int) -> NDArray[np.int32]:
    """The ranker's lists for the table's queries, (queries, k)."""
    return table.top(ranker.scores(table.features.astype(np.float64)), k)
