"""A participant's own recommender: kept in its own folder, and asked for lists there.

What is kept is what came from others, as of the training, and what was chosen.  What is the participant's own
is taken from its store: counts whenever a list is asked for; what has to be solved, when the champion is
evaluated.  Between trainings nothing leaves the participant for it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import sparse

from feature_store.catalogue import digest, index, read_catalogue
from feature_store.features import AsOfFeatures, events_of
from federation.errors import BadInput
from federation.files import named, save, write_json
from recommenders import sequence, two_stage
from recommenders.attention import Network
from recommenders.candidates import Candidates, candidates
from recommenders.choice import Choice
from recommenders.interactions import Interactions
from recommenders.interpolation import Interpolated
from recommenders.metrics import Queries
from recommenders.popularity import blend, left_of, moved, widened
from recommenders.sequence import Reader
from recommenders.snapshot import Others, Snapshot
from recommenders.topk import top_items, top_popular
from tasks.model import ModelConfig
from tasks.prepared import Prepared, store_features
from tasks.room import Room
from tasks.terms import counts, own_snapshot

Arrays = dict[str, NDArray[Any]]


class Kept(BaseModel):
    """What is known of a kept model; `served` names the folder of what was last made of it."""

    model_config = ConfigDict(frozen=True)

    run: str
    model: ModelConfig
    choice: Choice
    ranks: bool
    own_share: float | None = None
    catalogue: str
    features: tuple[str, ...] = ()
    served: str


def keep(
    room: Room, run: str, known: Snapshot, choice: Choice, learned: Interpolated | Reader | None
) -> None:
    """Keep what lists are made of: by `choice`, or by the ranker or transformer where there is one."""
    folder = room.model(run)
    for each in ("others", "networks"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    for name, array in known.others()._asdict().items():
        save(folder / "others" / f"{name}.npy", array)
    if isinstance(learned, Interpolated):
        write_json(folder / "ranker.json", learned.model_dump())
    for name, network in _networks(learned).items():
        for part, array in network._asdict().items():
            save(folder / "networks" / f"{name}-{part}.npy", array)
    told = {"run": run, "model": room.membership.model, "choice": choice}
    told |= {
        "ranks": isinstance(learned, Interpolated),
        "own_share": learned.share if isinstance(learned, Reader) else None,
    }
    names = two_stage.names(room.membership.model.windows)
    catalogue = digest(room.membership.catalogue, known.data.item_count)
    model = Kept(**told, catalogue=catalogue, features=names, served=run)
    serve(room, model, run, _made(room, model, known))


def kept(room: Room, run: str) -> Kept | None:
    """The participant's model of `run`; none where it has none, a damaged one, or another catalogue since.

    Items are known by their place in the catalogue; new ones may have come to its end.  The ranker of another
    version knows other features.
    """
    try:
        model = Kept.model_validate_json((room.model(run) / "model.json").read_text())
        items = _others(room, model).counts.shape[1]
        if model.ranks:
            _ranker(room.model(run))
        if model.own_share is not None:
            _kept_reader(room, model, model.own_share)
    except (FileNotFoundError, KeyError, ValueError, EOFError):
        return None
    same = not model.ranks or model.features == two_stage.names(model.model.windows)
    return model if same and model.catalogue == digest(room.membership.catalogue, items) else None


def fresh(room: Room, model: Kept, prepared: Prepared, part: int, items: NDArray[np.int32]) -> Arrays:
    """What lists of `items` are made of, anew: own events before `part`, the others' of the training."""
    data, at = prepared.before(part), prepared.begins(part)
    own = own_snapshot(data, at, items, model.model)
    return _made(room, model, own.joined(_others(room, model, data.item_count), model.model.windows))


def serve(room: Room, model: Kept, name: str, arrays: Arrays) -> None:
    """Serve `arrays` from now on, under `name`; those served until now stay for who may be reading them."""
    folder = room.model(model.run)
    (folder / "served" / named(name)).mkdir(parents=True, exist_ok=True)
    for each, array in arrays.items():
        save(folder / "served" / name / f"{each}.npy", array)
    write_json(folder / "model.json", model.model_copy(update={"served": name}).model_dump(mode="json"))
    for old in (folder / "served").iterdir():
        if old.name not in (name, model.served):
            shutil.rmtree(old, ignore_errors=True)


def served(room: Room, model: Kept) -> Arrays:
    """What lists are made of now; the arrays stay on disk.  Raises `BadInput` where one is damaged."""
    folder = room.model(model.run) / "served" / model.served
    try:
        return {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    except (ValueError, EOFError) as error:
        told = f"{folder}: found a damaged array ({error}); an evaluation of the champion makes it anew"
        raise BadInput(told) from None


def lists(room: Room, model: Kept, made: Arrays, prepared: Prepared, part: int) -> NDArray[np.int32]:
    """What the model lists for the queries of `part`, (queries, top), with users as known then."""
    queries, top = prepared.queries(part), room.membership.model.top
    own_items, data = made["own_items"], prepared.before(part)
    if model.own_share is not None:
        reader, config = _reader(made, model.own_share), model.model.sequence
        return sequence.lists(reader, config, data, own_items, made["popularity"], queries, top)
    if "popularity" in made:
        return top_popular(made["popularity"], queries, own_items, data.item_count, top)
    history = data.matrix()[queries.users][:, own_items].astype(np.float32)
    if model.ranks:
        found = two_stage.Retriever(**made)
        sources, many = two_stage.sources(found, history), model.model.two_stage.candidates
        listed = candidates(sources, queries, own_items, data.item_count, many)
        users, at = queries.users[listed.queries], prepared.begins(part)
        store = prepared.known(two_stage.STORE, users, listed.items, at)
        scores = _scores(room.model(model.run), found, listed, store)
        return two_stage.ordered(listed.items, listed.sizes, scores, top)
    weights = made["weights"]
    return top_items(lambda rows: history[rows] @ weights, queries, own_items, data.item_count, top)


def fresh_lists(room: Room, model: Kept, prepared: Prepared, part: int) -> NDArray[np.int32]:
    """What the model, made anew, lists for the queries of `part` of what had been sold here before."""
    return lists(room, model, fresh(room, model, prepared, part, prepared.sold(part)), prepared, part)


def recommend(room: Room, run: str, user: str, top: int) -> dict[str, Any]:
    """The first `top` items for `user`, best first, with scores; raises `BadInput` for an unknown one."""
    model = _asked(room, run)
    catalogue, events = read_catalogue(room.membership.catalogue), room.events()
    items = index(catalogue, events.column("item").combine_chunks())
    users = events.column("user").combine_chunks()
    code = pc.index(users.dictionary, user).as_py()
    if code < 0:
        raise BadInput(f"{room.name}: user {user!r} is not known; expected one with events")
    codes = users.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    times = events.column("event_time").cast(pa.int64()).fill_null(0).to_numpy()
    own = Interactions(codes, items, times, len(users.dictionary), len(catalogue)).where(items >= 0)
    seen = np.unique(own.items[own.users == code])
    at = int(times.max(initial=0)) + 1
    if model.ranks:
        known = AsOfFeatures(events_of(events, codes, items, len(catalogue)))
        found, scores = _ranked(room, model, own, known, code, seen, at)
    else:
        found, scores = _scored(room, model, own, code, seen, at)
    best = np.lexsort((found, -scores))[:top]
    return {"items": catalogue.take(found[best]).to_pylist(), "scores": scores[best].tolist()}


def _asked(room: Room, run: str) -> Kept:
    model = kept(room, run)
    if model is None and (room.model(run) / "model.json").is_file():
        raise BadInput(
            f"{room.name}: {room.membership.catalogue} has changed since run {run}, whose places of items it "
            "is, or the model is damaged, or of another version; expected the catalogue of then, or a new run"
        )
    if model is None:
        raise BadInput(f"{room.name}: has no model of run {run}; expected one of a finished run")
    return model


def _made(room: Room, model: Kept, known: Snapshot) -> Arrays:
    """What lists are made of, from what is known."""
    if model.ranks:
        return two_stage.retriever(known, model.model.two_stage, model.model.windows)._asdict()
    share, strength = model.choice.share, model.choice.strength
    if model.choice.kind == "popularity":
        made: Arrays = {"own_items": known.own_items, "popularity": known.popular(int(strength), share)}
        if model.own_share is not None:
            networks = _networks(_kept_reader(room, model, model.own_share).of(known.own_items))
            made |= {
                f"{name}-{part}": each
                for name, net in networks.items()
                for part, each in net._asdict().items()
            }
        return made
    return {"own_items": known.own_items, "weights": known.weights(share, strength)}


def _others(room: Room, model: Kept, items: int = 0) -> Others:
    """What is kept of the others, who had none of the newer ones of the catalogue's `items`."""
    folder = room.model(model.run) / "others"
    found = Others(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Others._fields))
    counts, own_counts = (widened(each, items) for each in (found.counts, found.own_counts))
    return found._replace(counts=counts, own_counts=own_counts)


def _counts(
    room: Room, model: Kept, own: Interactions, at: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The own counts as of the moment `at`, and with them everybody's as estimated, (windows, catalogue)."""
    mine, others = counts(own, at, model.model), _others(room, model, own.item_count)
    left = left_of(model.model.windows, at - int(others.moment[0]))
    return mine, mine + moved(others.counts, others.own_counts, mine, left)


def _scored(
    room: Room, model: Kept, own: Interactions, user: int, seen: NDArray[np.int32], at: int
) -> tuple[NDArray[np.int32], NDArray[np.floating[Any]]]:
    """The own items that were not seen, with popularity as of the moment `at` or item-to-item as score.

    Where a transformer reads, with the logarithm of popularity and what it says of the user's history.
    """
    if model.choice.kind == "popularity":
        window, own_items = int(model.choice.strength), own.own_items()
        mine, total = _counts(room, model, own, at)
        scores = blend(mine[window], total[window], model.choice.share)[own_items]
        if model.own_share is not None:
            reader, config = _kept_reader(room, model, model.own_share).of(own_items), model.model.sequence
            histories = sequence.Histories(own, own_items)
            scores = sequence.scored(reader, config, histories, scores, np.array([user]))[0]
    else:
        made = served(room, model)
        own_items = made["own_items"]
        scores = made["weights"][np.isin(own_items, seen)].sum(axis=0)
    new = ~np.isin(own_items, seen)
    return own_items[new], scores[new]


def _ranked(
    room: Room,
    model: Kept,
    own: Interactions,
    known: AsOfFeatures,
    user: int,
    seen: NDArray[np.int32],
    at: int,
) -> tuple[NDArray[np.int32], NDArray[np.floating[Any]]]:
    """The user's candidates as of the moment `at`, with the ranker's scores."""
    mine, total = _counts(room, model, own, at)
    found = two_stage.Retriever(**served(room, model))
    counted = two_stage.fresh_counts(own, at, model.model.windows)
    found = found._replace(own_counts=mine, total_counts=total, **counted)
    history = sparse.csr_array(np.isin(found.own_items, seen)[None, :].astype(np.float32))
    sources, many = two_stage.sources(found, history), model.model.two_stage.candidates
    nothing = np.zeros(0, np.int32)
    asked = Queries(np.zeros(1, np.int32), np.array([0, len(seen)]), seen, np.zeros(2, np.int64), nothing)
    listed = candidates(sources, asked, np.asarray(found.own_items), own.item_count, many)
    users = np.full(len(listed.items), user, np.int32)
    store = store_features(known, two_stage.STORE, users, listed.items, at)
    return listed.items, _scores(room.model(model.run), found, listed, store)


def _scores(
    folder: Path, found: two_stage.Retriever, listed: Candidates, store: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The ranker's scores of candidates."""
    return _ranker(folder).scores(two_stage.features(found, listed, store).astype(np.float64))


def _networks(learned: Interpolated | Reader | None) -> dict[str, Network]:
    """The networks of a reader by name."""
    return {"common": learned.common, "own": learned.own} if isinstance(learned, Reader) else {}


def _reader(arrays: Mapping[str, NDArray[Any]], share: float) -> Reader:
    common, own = (
        Network(*(arrays[f"{name}-{part}"] for part in Network._fields)) for name in ("common", "own")
    )
    return Reader(common, own, share)


def _kept_reader(room: Room, model: Kept, share: float) -> Reader:
    """The transformer of the training, of all items of then."""
    paths = (room.model(model.run) / "networks").glob("*.npy")
    return _reader({path.stem: np.load(path, mmap_mode="r") for path in paths}, share)


def _ranker(folder: Path) -> Interpolated:
    return Interpolated.model_validate_json((folder / "ranker.json").read_text())
