"""What a participant's process can be asked to do: each job one function of its room and its channel.

A job returns what the participant discloses.  `train` and `score` are the participant's own work and
are kept on its disk; `gather` and `evaluate` only add what was kept to the consortium's sums.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.catalogue import check_ids, read_catalogue, require_known
from federation.channel import Channel
from federation.errors import Refused
from federation.files import save, write_json
from federation.union import union
from recommenders.boosting import State
from recommenders.metrics import COUNTS, SUMS, intervals, metrics
from recommenders.popularity import widened
from tasks import comparison, own_model, personal, ranking, recommending, sequences, tables, terms
from tasks.comparison import Counts, Terms
from tasks.moments import moments
from tasks.prepared import Prepared
from tasks.room import Room
from tasks.sequences import Learned

Told = dict[str, Any]
Job = Callable[[Room, Told, Channel], Told]


def prepare(room: Room, asked: Told, _: Channel) -> Told:
    """Import, check and clean, if it is time; discloses the data's version; rows, users, report where it may.

    Where a `version` is asked for, it is that one as it lies in the store.  Raises `BadData` where the
    catalogue knows none of its items, and `BadInput` where something else is `agreed` than it knows.
    """
    room.membership.require_agreed(asked.get("agreed", room.membership.agreed))
    version = asked.get("version") or room.bring()
    manifest, discloses = room.manifest(version), room.membership.discloses
    told: Told = {"version": version}
    catalogue, items, grows = room.membership.catalogue, asked.get("items"), room.membership.catalogue_grows
    if catalogue.exists() and not grows:
        require_known(room.item_ids(version), catalogue)
    agreed = catalogue.exists() and (items or not grows)
    if discloses.rows and agreed and (left_out := room.unlisted(version, items)):
        told |= {"unlisted": left_out}
    if discloses.rows:
        told |= {"rows": manifest.rows, "cleaning": manifest.report.model_dump()}
    if discloses.users:
        events = room.store.events(room.name, ["user"], version=manifest.version)
        users = events.column("user").combine_chunks()
        told["users"] = len(users.dictionary)
    return told


def items(room: Room, told: Told, channel: Channel) -> Told:
    """The item ids that somebody of the cohort has and the catalogue has not, from sums only.

    Raises `Refused` where a catalogue is configured, and `BadData` for own ids that none can have.
    """
    path = room.membership.catalogue
    if not room.membership.catalogue_grows:
        raise Refused(f"{room.name}: adds to a sum of items only where no catalogue is configured")
    known = {*read_catalogue(path).to_pylist()} if path.exists() else set()
    new = [item for item in room.item_ids(told["version"]) if item not in known]
    check_ids(new, "events.columns.item, new id")
    return {"items": union(channel, new, "items")}


def cuts(room: Room, told: Told, channel: Channel) -> Told:
    """The agreed moments that cut everybody's events, as dates; from sums only."""
    version = room.manifest(told["version"]).version
    times = room.store.events(room.name, ["event_time"], version=version).column("event_time")
    seconds = times.cast("int64").drop_null().to_numpy().astype(np.float64) / 1e6
    split, model = room.membership.split, room.membership.model
    windows = model.two_stage.learn_from if model.kind == "two_stage" else 0
    return {"cuts": [_moment(each) for each in moments(channel, seconds, split, windows)]}


def train(room: Room, told: Told, _: Channel) -> Told:
    """The own term of the round's sums, kept until it is gathered."""
    sequences.require_torch(room.name, room.membership.model)
    quality = room.manifest(told["version"]).report.quality
    terms.keep_terms(room, _prepared(room, told), told["run"], told["number"], quality)
    return {}


def gather(room: Room, told: Told, channel: Channel) -> Told:
    """Add the kept terms to the consortium's sums."""
    terms.add_terms(room, told["run"], told["number"], channel)
    return {}


def tabulate(room: Room, told: Told, channel: Channel) -> Told:
    """Find the candidates of the own queries and keep their rows; discloses whether any teach the ranker."""
    prepared, run, number = _prepared(room, told), told["run"], told["number"]
    tables.keep_tables(room, prepared, run, number, channel)
    return {"teaches": tables.teaches(room, run, number, prepared.scored_in(number))}


def grow(room: Room, told: Told, channel: Channel) -> Told:
    """Grow trees on everybody's rows, through sums; all of the cohort return the same."""
    number, trees = told["number"], told["trees"]
    return ranking.grow_together(room, told["run"], number, told["part"], trees, _state(told), channel)


def learn(room: Room, told: Told, channel: Channel) -> Told:
    """Train the transformer on the own histories from the network after `begins` sums; kept to be added."""
    learner = sequences.Learner(room, _prepared(room, told), told["run"], told["number"], channel)
    learner.learn(told["begins"], told["turn"], _of_learning(told))
    return {}


def average(room: Room, told: Told, channel: Channel) -> Told:
    """Add how training has changed the network, to the sum of the number `step`."""
    learner = sequences.Learner(room, _prepared(room, told), told["run"], told["number"], channel)
    learner.add(told["step"], told["apart"], told["networks"], _of_learning(told))
    return {}


def look(room: Room, told: Told, channel: Channel) -> Told:
    """The consortium's figures of validation by the network after `step` sums, and how far to trust it."""
    learner = sequences.Learner(room, _prepared(room, told), told["run"], told["number"], channel)
    return learner.look(told["step"], told["networks"])


def score(room: Room, told: Told, channel: Channel) -> Told:
    """Make the most of the opened sums, score the own queries, keep the sums of their metrics."""
    prepared = _prepared(room, told)
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
    if (ranker := _state(told)) is not None:
        looks_at = ranking.explain(room, told["run"], told["number"], told["part"], ranker, channel)
    return {"overall": overall, "looks_at": looks_at, "judged": judged}


def refresh(room: Room, told: Told, _: Channel) -> Told:
    """Serve the own model of the run `champion` with the own events as of the newest window's beginning.

    What it lists in that window is kept, to be judged.
    """
    prepared, model = _prepared(room, told), own_model.kept(room, told["champion"])
    if model is not None:
        part = prepared.scored_in(1)
        save(_listed(room, told), own_model.fresh_lists(room, model, prepared, part))
        made = own_model.fresh(room, model, prepared, part, prepared.served())
        own_model.serve(room, model, told["run"], made)
    return {}


def judge(room: Room, told: Told, channel: Channel) -> Told:
    """How the own model of the run `champion` does on the newest window; all return the same."""
    prepared, path = _prepared(room, told), _listed(room, told)
    part, held = prepared.scored_in(1), np.load(path) if path.is_file() else None
    windows = told["windows"] or len(room.membership.model.windows)
    known = _counts(f"1/popularity/{told['learned']}", channel, windows)
    known = widened(known, prepared.data.item_count)
    then = comparison.describe(
        room.prepared(told["version"], tuple(told["learned_cuts"]), told.get("items")), told["learned"] - 1
    )
    return comparison.champion_figures(room, prepared, part, held, known, then, channel)


def forget(room: Room, told: Told, _: Channel) -> Told:
    """Drop what was kept for a run that is finished, or for the one round that is to be redone."""
    ranking.let_go()
    if "number" in told:
        room.forget_round(told["run"], told["number"])
    else:
        room.forget(told["run"])
    return {}


def tidy(room: Room, told: Told, _: Channel) -> Told:
    """Drop what no kept run needs any more; discloses how many folders that were."""
    return {"dropped": room.tidy(told["keep"])}


def recommend(room: Room, told: Told, _: Channel) -> Told:
    """A list for one of the participant's own users, from its own model of the run."""
    return recommending.recommend(room, told["run"], told["user"], told["top"])


JOBS: dict[str, Job] = {
    job.__name__: job
    for job in (
        prepare,
        items,
        cuts,
        train,
        gather,
        tabulate,
        grow,
        learn,
        average,
        look,
        score,
        evaluate,
        refresh,
        judge,
        forget,
        tidy,
        recommend,
    )
}


def offered(joined: bool) -> dict[str, Job]:
    """What is answered, by name; to a coordinator on another machine that it `joined` nothing of a user."""
    return {name: job for name, job in JOBS.items() if not (joined and job is recommend)}


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


def _prepared(room: Room, told: Told) -> Prepared:
    return room.prepared(told["version"], tuple(told["cuts"]), told.get("items"))


def _of_learning(told: Told) -> Told:
    """What all who train a network are told alike."""
    return {name: told.get(name) for name in ("items", "catalogue", "cuts")}


def _learned(told: Told) -> State | Learned | None:
    """What the consortium has learned: the ranker, or when its transformer was best."""
    return Learned.model_validate(told["learned"]) if told.get("learned") else _state(told)


def _state(told: Told) -> State | None:
    """The ranker that the coordinator tells of, by value: it is common knowledge."""
    return State.model_validate(told["state"]) if told.get("state") else None


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(round(seconds), UTC).replace(tzinfo=None).isoformat()
