"""A participant's own recommender: kept in its own folder, and asked for lists there."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from feature_store.catalogue import index, read_catalogue
from feature_store.features import AsOfFeatures, events_of
from federation.errors import BadInput
from recommenders import two_stage
from recommenders.boosting import State
from recommenders.candidates import Candidates, candidates
from recommenders.choice import Choice
from recommenders.metrics import Queries
from recommenders.snapshot import Snapshot
from recommenders.topk import top_items
from tasks.prepared import Prepared, store_features
from tasks.room import Room
from tasks.runs import save, write_json


def keep(room: Room, run: str, known: Snapshot, choice: Choice, ranker: State | None) -> None:
    """Write what `recommend` reads: by `choice`, or by the ranker where there is one."""
    folder = room.model(run)
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / "items.npy", known.own_items)
    if ranker is not None:
        for name, array in two_stage.retriever(known, room.membership.model.two_stage)._asdict().items():
            save(folder / f"{name}.npy", array)
        write_json(folder / "ranker.json", ranker.model_dump())
    elif choice.kind == "popularity":
        save(folder / "popularity.npy", known.popular(int(choice.strength), choice.share))
    else:
        save(folder / "weights.npy", known.weights(choice.share, choice.strength))
    told = {"candidates": room.membership.model.two_stage.candidates, "catalogue": catalogue_hash(room)}
    write_json(folder / "model.json", {"run": run, **choice.as_dict(), **told})


def catalogue_hash(room: Room) -> str:
    """Which catalogue the places of items are in."""
    return hashlib.sha256(room.membership.catalogue.read_bytes()).hexdigest()


def lists(room: Room, run: str, prepared: Prepared, part: int) -> NDArray[np.int32]:
    """What the model of `run` lists for the queries of `part`, (queries, top), with users as known then."""
    folder, queries, top = room.model(run), prepared.queries(part), room.membership.model.top
    own_items, data = np.load(folder / "items.npy"), prepared.before(part)
    history = data.matrix()[queries.users][:, own_items].astype(np.float32)
    if (folder / "ranker.json").is_file():
        found, many = _retriever(folder), int(json.loads((folder / "model.json").read_text())["candidates"])
        listed = candidates(two_stage.sources(found, history, many), queries, own_items, data.item_count)
        users, at = queries.users[listed.queries], prepared.begins(part)
        store = prepared.known(two_stage.STORE, users, listed.items, at)
        return two_stage.ordered(listed.items, listed.sizes, _scores(folder, found, listed, store), top)
    if (folder / "weights.npy").is_file():
        weights = np.load(folder / "weights.npy", mmap_mode="r")
        return top_items(lambda rows: history[rows] @ weights, queries, own_items, data.item_count, top)
    popular = np.load(folder / "popularity.npy")
    every = np.broadcast_to(popular, (len(queries), len(popular)))
    return top_items(lambda rows: every[rows], queries, own_items, data.item_count, top)


def recommend(room: Room, run: str, user: str, top: int) -> dict[str, Any]:
    """The first `top` items for `user`, best first, with scores; raises `BadInput` for an unknown one."""
    folder = room.model(run)
    if not (folder / "model.json").is_file():
        raise BadInput(f"{room.name}: has no model of run {run}; expected one of a finished run")
    model = json.loads((folder / "model.json").read_text())
    if model["catalogue"] != catalogue_hash(room):
        raise BadInput(
            f"{room.name}: {room.membership.catalogue} has changed since run {run}, whose places of items it "
            "is; expected the one of then, or a newer run"
        )
    catalogue, events = read_catalogue(room.membership.catalogue), room.events()
    items = index(catalogue, events.column("item").combine_chunks())
    users = events.column("user").combine_chunks()
    code = pc.index(users.dictionary, user).as_py()
    if code < 0:
        raise BadInput(f"{room.name}: user {user!r} is not known; expected one with events")
    codes = users.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    seen = np.unique(items[(codes == code) & (items >= 0)])
    if (folder / "ranker.json").is_file():
        known = AsOfFeatures(events_of(events, codes, items, len(catalogue)))
        found, scores = _ranked(folder, int(model["candidates"]), known, code, seen, _after(events))
    else:
        found, scores = _scored(folder, seen)
    best = np.lexsort((found, -scores))[:top]
    return {"items": catalogue.take(found[best]).to_pylist(), "scores": scores[best].tolist()}


def _scored(folder: Path, seen: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.floating[Any]]]:
    """The own items that were not seen, with popularity or item-to-item as score."""
    own_items = np.load(folder / "items.npy")
    had = np.isin(own_items, seen)
    if (folder / "weights.npy").is_file():
        scores = np.load(folder / "weights.npy", mmap_mode="r")[had].sum(axis=0)
    else:
        scores = np.load(folder / "popularity.npy")
    return own_items[~had], scores[~had]


def _ranked(
    folder: Path, many: int, known: AsOfFeatures, user: int, seen: NDArray[np.int32], at: int
) -> tuple[NDArray[np.int32], NDArray[np.floating[Any]]]:
    """The user's candidates as of the moment `at`, with the ranker's scores."""
    found = _retriever(folder)
    history = sparse.csr_array(np.isin(found.own_items, seen)[None, :].astype(np.float32))
    sources = two_stage.sources(found, history, many)
    nothing = np.zeros(0, np.int32)
    asked = Queries(np.zeros(1, np.int32), np.array([0, len(seen)]), seen, np.zeros(2, np.int64), nothing)
    listed = candidates(sources, asked, np.asarray(found.own_items), found.own_counts.shape[1])
    users = np.full(len(listed.items), user, np.int32)
    store = store_features(known, two_stage.STORE, users, listed.items, at)
    return listed.items, _scores(folder, found, listed, store)


def _retriever(folder: Path) -> two_stage.Retriever:
    fields = two_stage.Retriever._fields
    return two_stage.Retriever(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in fields))


def _scores(
    folder: Path, found: two_stage.Retriever, listed: Candidates, store: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The ranker's scores of candidates."""
    ranker = State.model_validate_json((folder / "ranker.json").read_text())
    return ranker.scores(two_stage.features(found, listed, store).astype(np.float64))


def _after(events: pa.Table) -> int:
    """The moment after the last event, in microseconds."""
    return int(pc.max(events.column("event_time").cast(pa.int64())).as_py() or 0) + 1
