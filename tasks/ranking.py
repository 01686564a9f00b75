"""A participant's part in growing the ranker, and the one that it grows alone, for comparison.

Growing with the others is lockstep: every histogram is a sum over the cohort, and all hold the same trees.
"""

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel, Solo
from federation.files import write_json
from federation.stopping import Decision, StopRule, decide
from recommenders import bins, two_stage
from recommenders.boosting import Rows, State
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
    model = room.membership.model
    rows = training(room, run, number, TOGETHER, range(1, part))
    grown = more_trees(channel, rows, state, trees, model)
    told: dict[str, Any] = {"state": grown.model_dump(), "clipped": grown.clipped}
    if number == 0:
        table = read_table(room, run, number, TOGETHER, part)
        sums = channel.sum("metrics", metric_sums(ranked(table, grown, model.top), table.queries), SUMS)
        told["overall"] = metrics(sums, model.top)
    return told


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
    own = more_trees(Solo(), rows, None, len(common.trees), model) if len(rows.labels) else None
    return Interpolated(common=common, own=own, share=model.two_stage.own_shares[0])


def share_by(ranker: Interpolated, table: Table, model: ModelConfig) -> Interpolated:
    """`ranker` with the share that the queries of `table` like best."""
    shares = model.two_stage.own_shares
    tried = [ranker.model_copy(update={"share": share}) for share in shares]
    quality = [per_query(ranked(table, each, model.top), table.queries)[:, 0] for each in tried]
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
    if number == 1:
        return more_trees(Solo(), rows, None, json.loads(kept.read_text())["trees"], model)
    table, state, history = read_table(room, run, number, ALONE, part), None, list[float]()
    while not (decision := stopping(history, model.two_stage)).stop:
        state = more_trees(Solo(), rows, state, next_trees(len(history), model.two_stage), model)
        history.append(float(per_query(ranked(table, state, model.top), table.queries)[:, 0].mean()))
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


def more_trees(channel: Channel, rows: Rows, state: State | None, trees: int, model: ModelConfig) -> State:
    """The state with `trees` more; where there is none, the cohort agrees on bins first."""
    settings = model.two_stage.boosting
    if state is None:
        names = two_stage.names(model.windows)
        agreed = bins.agree(channel, rows.features, names, max_bin=settings.max_bin)
        state = begin(channel, rows, agreed, settings)
    return grow(channel, rows, state, settings, trees, data=binned(rows, state.bins, settings))


def ranked(table: Table, ranker: State | Interpolated, k: int) -> NDArray[np.int32]:
    """The ranker's lists for the table's queries, (queries, k)."""
    return table.top(ranker.scores(table.features.astype(np.float64)), k)
