"""What a participant's process can be asked to do: each job one function of its room and its channel.

A job returns what the participant discloses.  `train` is the participant's own work and is kept on its disk;
`gather` only adds what was kept to the consortium's sums.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from feature_store.catalogue import check_ids, read_catalogue, require_known
from federation.channel import Channel
from federation.errors import Refused
from federation.union import union
from tasks import ranking, recommending, sequences, tables, terms
from tasks.judging import evaluate, judge, refresh, score, state_of
from tasks.moments import moments
from tasks.room import Room

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
    terms.keep_terms(room, room.as_told(told), told["run"], told["number"])
    return {}


def gather(room: Room, told: Told, channel: Channel) -> Told:
    """Add the kept terms to the consortium's sums."""
    terms.add_terms(room, told["run"], told["number"], channel)
    return {}


def tabulate(room: Room, told: Told, channel: Channel) -> Told:
    """Find the candidates of the own queries and keep their rows; discloses whether any teach the ranker."""
    prepared, run, number = room.as_told(told), told["run"], told["number"]
    tables.keep_tables(room, prepared, run, number, channel)
    return {"teaches": tables.teaches(room, run, number, prepared.scored_in(number))}


def grow(room: Room, told: Told, channel: Channel) -> Told:
    """Grow trees on everybody's rows, through sums; all of the cohort return the same."""
    number, trees = told["number"], told["trees"]
    return ranking.grow_together(room, told["run"], number, told["part"], trees, state_of(told), channel)


def learn(room: Room, told: Told, channel: Channel) -> Told:
    """Train the transformer on the own histories from the network after `begins` sums; kept to be added."""
    learner = sequences.Learner(room, room.as_told(told), told["run"], told["number"], channel)
    learner.learn(told["begins"], told["turn"], _of_learning(told))
    return {}


def average(room: Room, told: Told, channel: Channel) -> Told:
    """Add how training has changed the network, to the sum of the number `step`."""
    learner = sequences.Learner(room, room.as_told(told), told["run"], told["number"], channel)
    learner.add(told["step"], told["apart"], told["networks"], _of_learning(told))
    return {}


def look(room: Room, told: Told, channel: Channel) -> Told:
    """The consortium's figures of validation by the network after `step` sums, and how far to trust it."""
    learner = sequences.Learner(room, room.as_told(told), told["run"], told["number"], channel)
    return learner.look(told["step"], told["networks"])


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


def _of_learning(told: Told) -> Told:
    """What all who train a network are told alike."""
    return {name: told.get(name) for name in ("items", "catalogue", "cuts")}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(round(seconds), UTC).replace(tzinfo=None).isoformat()
