"""What a participant's process can be asked to do: each job one function of its room and its channel.

A job returns what the participant discloses.  `train` and `score` are the participant's own work and
are kept on its disk; `gather` and `evaluate` only add what was kept to the consortium's sums.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from federation.channel import Channel
from federation.sketch import quantiles
from recommenders.metrics import COUNTS, SUMS, metrics
from tasks import personal
from tasks.room import Prepared, Room
from tasks.runs import write_json

Told = dict[str, Any]
Job = Callable[[Room, Told, Channel], Told]


def prepare(room: Room, asked: Told, _: Channel) -> Told:
    """Import, check and clean; discloses the data's version, and rows, users, report where it may.

    Where a `version` is asked for, it is that one as it lies in the store.
    """
    version = asked.get("version")
    manifest = room.import_all() if version is None else room.store.manifest(room.name, version)
    discloses = room.membership.discloses
    told: Told = {"version": manifest.version}
    if discloses.rows:
        told |= {"rows": manifest.rows, "cleaning": manifest.report.model_dump()}
    if discloses.users:
        events = room.store.events(room.name, ["user"], version=manifest.version)
        users = events.column("user").combine_chunks()
        told["users"] = len(users.dictionary)
    return told


def items(room: Room, _: Told, __: Channel) -> Told:
    """The item ids that this participant has: asked only to make the union, which is a disclosure."""
    return {"items": room.item_ids()}


def cuts(room: Room, _: Told, channel: Channel) -> Told:
    """The agreed quantiles of all events' times, as dates; from sums of a sketch."""
    times = room.store.events(room.name, ["event_time"]).column("event_time")
    seconds = times.cast("int64").drop_null().to_numpy().astype(np.float64) / 1e6
    split = room.membership.split
    found = quantiles(channel, seconds, (split.validation, split.test), bits=40)
    return {"cuts": [_moment(value) for value in found.values[0]]}


def train(room: Room, told: Told, _: Channel) -> Told:
    """The own term of the round's sums, kept until it is gathered."""
    personal.keep_terms(room, _prepared(room, told), told["run"], told["number"])
    return {}


def gather(room: Room, told: Told, channel: Channel) -> Told:
    """Add the kept terms to the consortium's sums."""
    personal.add_terms(room, told["run"], told["number"], channel)
    return {}


def score(room: Room, told: Told, channel: Channel) -> Told:
    """Make the most of the opened sums, score the own queries, keep the sums of their metrics."""
    prepared = _prepared(room, told)
    scored = personal.score(room, prepared, told["run"], told["number"], channel)
    kept = room.work(told["run"], told["number"]) / "scored.json"
    write_json(
        kept, {arm: [list(sums), list(map(int, counts))] for arm, (sums, counts) in scored.arms.items()}
    )
    if not room.membership.discloses.metrics:
        return {}
    top = room.membership.model.top
    figures = {arm: metrics(sums, top) for arm, (sums, _) in scored.arms.items()}
    return {**figures, "chosen": scored.chosen}


def evaluate(room: Room, told: Told, channel: Channel) -> Told:
    """The consortium's figures, from the sums of everyone's metric sums and recommendation counts."""
    kept = json.loads((room.work(told["run"], told["number"]) / "scored.json").read_text())
    top, overall = room.membership.model.top, {}
    for arm in sorted(kept):
        sums = channel.sum(f"metrics/{arm}", np.array(kept[arm][0]), SUMS)
        counts = channel.sum(f"recommended/{arm}", np.array(kept[arm][1]), COUNTS)
        overall[arm] = metrics(sums, top, counts)
    return {"overall": overall}


def forget(room: Room, told: Told, _: Channel) -> Told:
    """Drop what was kept for a run that is finished, or for the one round that is to be redone."""
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
    return personal.recommend(room, told["run"], told["user"], told["top"])


JOBS: dict[str, Job] = {
    job.__name__: job
    for job in (prepare, items, cuts, train, gather, score, evaluate, forget, tidy, recommend)
}


def _prepared(room: Room, told: Told) -> Prepared:
    return room.prepared(told["version"], tuple(told["cuts"]))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(round(seconds), UTC).replace(tzinfo=None).isoformat()
