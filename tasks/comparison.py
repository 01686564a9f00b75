"""Champion and challenger at a participant: both on the queries of the newest window, kept as additive terms.

The champion is what the participant's users get today: its own model of the champion's run.  What it knows of
the others ends where that run's own test began; the own events, users' histories and the feature store are as
of the new test's beginning for both.
"""

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel
from federation.drift import feature_counts
from federation.errors import Refused
from federation.gate import worse_off
from recommenders import two_stage
from recommenders.metrics import (
    COUNTS,
    NAMES,
    SUMS,
    bootstrap_errors,
    bootstrap_sums,
    metric_sums,
    metrics,
    per_query,
)
from tasks import own_model
from tasks.drift import drift
from tasks.prepared import Prepared
from tasks.room import Room

Lists = NDArray[np.int32]
Counts = NDArray[np.int64]

FEWEST_QUERIES = 10
"""Of fewer a bootstrap error says nothing: that of one is 0, whatever chance has done."""


class Terms(NamedTuple):
    """Sums of the challenger's and the champion's NDCG and the number of queries, (3,); (draws, 3).

    Where the participant does not hold the champion, the challenger stands in for it: no gain, no loss.
    `flags` are whether it holds it, and whether it would be worse off; `items` are those had in the window.
    `described` are the cells of events by feature, in the window before and this one, (2, features, cells).
    """

    sums: NDArray[np.float64]
    draws: NDArray[np.float64]
    flags: NDArray[np.int64]
    items: NDArray[np.int32]
    described: Counts


def compare(room: Room, prepared: Prepared, part: int, challenger: Lists, champion: Lists | None) -> Terms:
    """The participant's terms of the comparison over the queries of `part`."""
    queries = prepared.queries(part)
    stand_in = challenger if champion is None else champion
    ours, theirs = (per_query(lists, queries)[:, 0] for lists in (challenger, stand_in))
    values = np.column_stack([ours, theirs])
    sums, draws = (
        np.append(values.sum(axis=0), len(values)),
        bootstrap_sums(values, secret(room, prepared, values)),
    )
    worse = len(values) >= FEWEST_QUERIES and _worse(room, sums, draws)
    flags = np.array([champion is not None, worse], np.int64)
    described = np.stack([describe(prepared, part - 1), describe(prepared, part)])
    return Terms(sums, draws, flags, prepared.data.items[prepared.part == part], described)


def add(
    channel: Channel, terms: Terms, known: tuple[Counts, Counts], minimum: int, top: int
) -> dict[str, Any]:
    """The consortium's errors, gain and drift; all of the cohort return the same.

    `known` are its counts of each item when the window began, recent ones and all, for the drift.
    The champion's figures are opened only where `minimum` hold it: of fewer they would be theirs.
    """
    draws = np.zeros_like(terms.draws)
    draws[:, [0, 2]] = channel.sum("bootstrap", terms.draws[:, [0, 2]].ravel(), SUMS).reshape(-1, 2)
    told: dict[str, Any] = drift(channel, terms.items, known, terms.described)
    told[f"ndcg_at_{top}_error"] = float(bootstrap_errors(draws)[0][0])
    told["compared"] = int(channel.sum("champion/held", terms.flags[:1], COUNTS)[0])
    if told["compared"] >= minimum:
        told["worse"] = int(channel.sum("champion/worse", terms.flags[1:], COUNTS)[0])
        draws[:, 1] = channel.sum("champion/bootstrap", terms.draws[:, 1], SUMS)
        ours, theirs, queries = channel.sum("champion/ndcg", terms.sums, SUMS).tolist()
        told["gain"] = (ours - theirs) / queries if queries else float("nan")
        told["gain_error"] = float(bootstrap_errors(draws)[1][1])
    return told


def champion_figures(
    room: Room,
    prepared: Prepared,
    part: int,
    champion: Lists | None,
    known: tuple[Counts, Counts],
    then: Counts,
    channel: Channel,
) -> dict[str, Any]:
    """The champion's figures in `part`, and the drift since it was trained; for a window without a training.

    `then` is what described the events that were the newest when it was trained.
    Raises `Refused` where fewer than the rounds' minimum hold it: its figures would be theirs.
    """
    holders = int(channel.sum("held", np.array([champion is not None]), COUNTS)[0])
    if holders < room.membership.rounds.minimum:
        raise Refused(
            f"only {holders} participants have the champion, expected {room.membership.rounds.minimum}"
        )
    queries, top = prepared.queries(part), room.membership.model.top
    values = np.zeros((0, 1))
    sums = np.zeros(len(NAMES) + 1)
    if champion is not None:
        values, sums = per_query(champion, queries)[:, :1], metric_sums(champion, queries)
    drawn = bootstrap_sums(values, secret(room, prepared, values))
    told = metrics(channel.sum("metrics", sums, SUMS), top)
    draws = channel.sum("bootstrap", drawn.ravel(), SUMS).reshape(drawn.shape)
    items, described = prepared.data.items[prepared.part == part], np.stack([then, describe(prepared, part)])
    told |= drift(channel, items, known, described)
    return {**told, f"ndcg_at_{top}_error": float(bootstrap_errors(draws)[0][0])}


def describe(prepared: Prepared, part: int) -> Counts:
    """The cells of the events in `part` by the feature store's features as it began, (features, cells).

    All are 0 where the split has no cuts in time, and for part 0, which has no beginning.
    """
    inside, data = prepared.part == part, prepared.data
    if not prepared.moments or part < 1:
        return feature_counts(np.zeros((0, len(two_stage.STORE))))
    at = prepared.begins(part)
    return feature_counts(prepared.known(two_stage.STORE, data.users[inside], data.items[inside], at))


def champion_lists(room: Room, run: str, prepared: Prepared, part: int) -> Lists | None:
    """What the participant's own model of `run` lists for the queries of `part`; none where it has none."""
    model = own_model.kept(room, run)
    return None if model is None else own_model.fresh_lists(room, model, prepared, part)


def _worse(room: Room, sums: NDArray[np.float64], draws: NDArray[np.float64]) -> bool:
    ours, theirs = sums[:2] / sums[2]
    return worse_off(room.membership.gate, theirs, ours - theirs, float(bootstrap_errors(draws)[1][1]))


def secret(room: Room, prepared: Prepared, values: NDArray[np.float64]) -> np.random.Generator:
    """Random numbers that only the participant can repeat.

    With draws that others know, each sum of a bootstrap would be an equation in single queries.  So they
    follow from its events: from `values` alone, whoever guesses a few could tell that they are right.
    """
    told = hashlib.sha256(f"{room.name} {room.membership.seed} ".encode())
    for each in (values, prepared.data.items, prepared.data.times):
        told.update(each.tobytes())
    return np.random.default_rng(int.from_bytes(told.digest(), "little"))
