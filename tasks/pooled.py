"""What pooled rows would give: for `flows/compare.py` only, and for data that lies on one machine anyway."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from federation.channel import Solo
from mlruns_config.figures import gain_figure
from mlruns_config.tracking import Tracking
from recommenders.item_to_item import require_memory, solve
from recommenders.metrics import SUMS, Queries, item_counts, metric_sums, metrics, per_query
from recommenders.popularity import windowed_counts
from recommenders.topk import top_items, top_popular
from tasks.membership import Membership
from tasks.model import ModelConfig
from tasks.pooled_ranker import Lists, ranked_lists
from tasks.pooled_sequence import read_lists
from tasks.prepared import Prepared
from tasks.publish import by_arm
from tasks.room import Room
from tasks.runs import RunFolder


@task(name="train on pooled rows", cache_policy=NO_CACHE)
def pool(
    home: Path, memberships: Sequence[Membership], figures: Mapping[str, Any], folder: RunFolder
) -> dict[str, Any]:
    """The figures with an arm `pooled`, one model of everybody's rows, its strength chosen on validation.

    Where there is a ranker, also with an arm `bagged`: trees that participants grow apart and show.  Whose
    data could not be prepared is in neither, as the figures' `lost` says.
    """
    cuts, items, model = tuple(folder.facts["cuts"]), folder.facts.get("items"), memberships[0].model
    everyone = {
        each.name: Room(home / "participants" / each.name, each).prepared(version, cuts, items)
        for each in memberships
        if (version := figures["participants"][each.name]["data_version"]) is not None
    }
    if model.kind == "two_stage":
        arms = ranked_lists(everyone, model, figures["trees"])
    elif model.kind == "sequence":
        arms = {"pooled": read_lists(everyone, model, figures["federated_rounds"], memberships[0].seed)}
    else:
        arms = {"pooled": pooled_lists(everyone, model)}
    part = next(iter(everyone.values())).scored_in(1)
    for arm, lists in arms.items():
        figures = _with_arm(figures, arm, everyone, lists, part, model.top)
    return dict(figures)


def report(figures: Mapping[str, Any], tracking: Tracking, folder: RunFolder, metric: str) -> None:
    """The three side by side as a figure of the run at MLflow, and all figures as JSON."""
    run_id = folder.facts["mlflow_run_id"]
    shown = by_arm(figures, metric, ("alone", "consortium", "pooled"))
    tracking.log_json(run_id, figures, "compare.json")
    tracking.log_figure(run_id, gain_figure(shown, metric), "compare.png")


def pooled_lists(everyone: Mapping[str, Prepared], model: ModelConfig) -> Lists:
    """Everyone's lists for the test, by item-to-item or popularity of pooled rows."""
    each = next(iter(everyone.values()))
    strengths = model.regularisations if model.kind == "item_to_item" else range(len(model.windows))
    if model.kind == "item_to_item":
        require_memory(each.data.item_count, model.memory_gb)

    def lists(part: int, strength: float) -> Lists:
        learned = _learn(everyone, part, strength, model)
        return {name: _lists(prepared, part, learned, model.top) for name, prepared in everyone.items()}

    part = each.scored_in(0)
    best = max(strengths, key=lambda strength: _ndcg(everyone, lists(part, strength), part))
    return lists(each.scored_in(1), best)


def _learn(everyone: Mapping[str, Prepared], part: int, strength: float, model: ModelConfig) -> NDArray[Any]:
    """Weights over the whole catalogue, or one score an item."""
    if model.kind == "popularity":
        days = model.windows[int(strength)]
        return np.sum(
            [windowed_counts(each.before(part), each.begins(part), days) for each in everyone.values()],
            axis=0,
        )
    matrices = [each.before(part).matrix() for each in everyone.values()]
    gram = sum(matrix.T @ matrix for matrix in matrices)
    return solve(np.asarray(gram.toarray(), np.float64), strength)


def _lists(each: Prepared, part: int, learned: NDArray[Any], top: int) -> NDArray[np.int32]:
    queries, own = each.queries(part), each.sold(part)
    if learned.ndim == 1:
        popular = learned[own].astype(np.float32)
        return top_popular(popular, queries, own, each.data.item_count, top)
    history = each.before(part).matrix()[queries.users][:, own].astype(np.float32)
    weights = learned[np.ix_(own, own)]
    return top_items(lambda rows: history[rows] @ weights, queries, own, each.data.item_count, top)


def _ndcg(everyone: Mapping[str, Prepared], lists: Lists, part: int) -> float:
    asked: dict[str, Queries] = {name: each.queries(part) for name, each in everyone.items()}
    values = np.concatenate([per_query(lists[name], asked[name])[:, 0] for name in everyone])
    return float(values.mean()) if len(values) else 0.0


def _with_arm(
    figures: Mapping[str, Any],
    arm: str,
    everyone: Mapping[str, Prepared],
    lists: Lists,
    part: int,
    top: int,
) -> dict[str, Any]:
    sums = {name: metric_sums(lists[name], each.queries(part)) for name, each in everyone.items()}
    items = next(iter(everyone.values())).data.item_count
    counts = np.sum([item_counts(each, items) for each in lists.values()], axis=0)
    participants = {
        name: {**told, arm: metrics(sums[name], top) if told["consortium"] else None}
        for name, told in figures["participants"].items()
    }
    added = np.sum([Solo().sum("metrics", each, SUMS) for each in sums.values()], axis=0)
    overall = {**figures["overall"], arm: metrics(added, top, counts)}
    return {**figures, "overall": overall, "participants": participants}
