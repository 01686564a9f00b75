"""A participant's figures: its lists are scored at home, and the sums of their metrics are added.

`score` and `refresh` are its own work and are kept on its disk; `evaluate` and `judge` add what was kept.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from federation.channel import Channel
from federation.files import save, write_json
from recommenders.boosting import State
from recommenders.metrics import COUNTS, SUMS, intervals, metrics
from recommenders.popularity import widened
from tasks import comparison, own_model, personal, ranking
from tasks.comparison import Counts, Terms
from tasks.room import Room
from tasks.sequences import Learned

Told = dict[str, Any]


def score(room: Room, told: Told, channel: Channel) -> Told:
    """Make the most of the opened sums, score the own queries, keep the sums of their metrics."""
    prepared = room.as_told(told)
    asked = told["run"], told["number"], channel, _learned(told), told.get("champion")
    scored = personal.score(room, prepared, *asked)
    folder = room.work(told["run"], told["number"])
    for name, array in scored.terms._asdict().items():
        save(folder / f"compared-{name}.npy", array)
    save(folder / "bootstrap.npy", scored.draws)
    write_json(
        folder / "scored.json",
        {arm: [list(sums), list(map(int, counts))] for arm, (sums, counts) in scored.arms.items()},
    )
    if not room.membership.discloses.metrics:
        return {}
    top = room.membership.model.top
    figures = {arm: metrics(sums, top) for arm, (sums, _) in scored.arms.items()}
    for arm, found in intervals(scored.draws, sorted(figures.keys() - {"champion"}), top).items():
        figures[arm] |= found
    return {**figures, "chosen": scored.chosen, "worse": bool(scored.terms.flags[1])}


def evaluate(room: Room, told: Told, channel: Channel) -> Told:
    """The consortium's figures, from the sums of everyone's metric sums and recommendation counts."""
    kept = json.loads((room.work(told["run"], told["number"]) / "scored.json").read_text())
    top, overall = room.membership.model.top, {}
    judged = _compared(room, told, channel)
    kept.pop("champion", None)
    for arm in sorted(kept):
        sums = channel.sum(f"metrics/{arm}", np.array(kept[arm][0]), SUMS)
        counts = channel.sum(f"recommended/{arm}", np.array(kept[arm][1]), COUNTS)
        overall[arm] = metrics(sums, top, counts)
    draws = np.load(room.work(told["run"], told["number"]) / "bootstrap.npy")
    opened = channel.sum("metrics/bootstrap", draws.ravel(), SUMS).reshape(draws.shape)
    for arm, found in intervals(opened, sorted(kept), top).items():
        overall[arm] |= found
    looks_at = {}
    if (ranker := state_of(told)) is not None:
        looks_at = ranking.explain(room, told["run"], told["number"], told["part"], ranker, channel)
    return {"overall": overall, "looks_at": looks_at, "judged": judged}


def refresh(room: Room, told: Told, _: Channel) -> Told:
    """Serve the own model of the run `champion` with the own events as of the newest window's beginning.

    What it lists in that window is kept, to be judged.
    """
    prepared, model = room.as_told(told), own_model.kept(room, told["champion"])
    if model is not None:
        part = prepared.scored_in(1)
        save(_listed(room, told), own_model.fresh_lists(room, model, prepared, part))
        made = own_model.fresh(room, model, prepared, part, prepared.served())
        own_model.serve(room, model, told["run"], made)
    return {}


def judge(room: Room, told: Told, channel: Channel) -> Told:
    """How the own model of the run `champion` does on the newest window; all return the same."""
    prepared, path = room.as_told(told), _listed(room, told)
    part, held = prepared.scored_in(1), np.load(path) if path.is_file() else None
    windows = told["windows"] or len(room.membership.model.windows)
    known = _counts(f"1/popularity/{told['learned']}", channel, windows)
    known = widened(known, prepared.data.item_count)
    then = comparison.describe(
        room.prepared(told["version"], tuple(told["learned_cuts"]), told.get("items")), told["learned"] - 1
    )
    return comparison.champion_figures(room, prepared, part, held, known, then, channel)


def state_of(told: Told) -> State | None:
    """The ranker that the coordinator tells of, by value: it is common knowledge."""
    return State.model_validate(told["state"]) if told.get("state") else None


def _compared(room: Room, told: Told, channel: Channel) -> Told:
    """Errors, drift and the champion's comparison, from the sums of everyone's kept terms."""
    folder, model = room.work(told["run"], told["number"]), room.membership.model
    kept = Terms(*(np.load(folder / f"compared-{name}.npy") for name in Terms._fields))
    windows = len(model.windows)
    known = _counts(f"{told['number']}/popularity/{told['part']}", channel, windows)
    return comparison.add(channel, kept, known, room.membership.rounds.minimum, model.top)


def _counts(name: str, channel: Channel, windows: int) -> Counts:
    """Recent counts of each item and all, (2, catalogue), from the opened popularity `name` by window."""
    counts = channel.read(name).reshape(windows, -1)
    order = np.argsort(counts.sum(axis=1), kind="stable")  # a longer window has what a shorter one has
    return counts[order[[(windows - 1) // 2, -1]]]


def _listed(room: Room, told: Told) -> Path:
    """Where the lists of the champion that is evaluated are, of who holds it."""
    return room.work(told["run"], told["number"]) / "champion.npy"


def _learned(told: Told) -> State | Learned | None:
    """What the consortium has learned: the ranker, or when its transformer was best."""
    return Learned.model_validate(told["learned"]) if told.get("learned") else state_of(told)
