"""A participant's own recommender: kept in its own folder, and asked for lists there.

What is kept is what came from others, as of the training, and what was chosen.  What is the participant's own
is taken from its store: counts whenever a list is asked for; what has to be solved, when the champion is
evaluated.  Between trainings nothing leaves the participant for it.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from feature_store.catalogue import digest
from feature_store.content import NOTHING, Content
from federation.errors import BadInput
from federation.files import named, save, write_json
from recommenders import sequence, two_stage
from recommenders.candidates import candidates
from recommenders.choice import Choice
from recommenders.interpolation import Interpolated
from recommenders.popularity import widened
from recommenders.query_rows import ordered
from recommenders.sequence import Reader
from recommenders.snapshot import Others, Snapshot
from recommenders.topk import top_items, top_popular
from tasks.model import ModelConfig
from tasks.prepared import Prepared
from tasks.room import Room
from tasks.terms import own_snapshot

Arrays = dict[str, NDArray[Any]]


class Kept(BaseModel):
    """What is known of a kept model; `served` names the folder of what was last made of it."""

    model_config = ConfigDict(frozen=True)

    run: str
    model: ModelConfig
    choice: Choice
    ranks: bool
    reads: bool = False
    catalogue: str
    features: tuple[str, ...] = ()
    served: str


def keep(
    room: Room,
    run: str,
    known: Snapshot,
    choice: Choice,
    learned: Interpolated | Reader | None,
    content: Content = NOTHING,
) -> None:
    """Keep what lists are made of: by `choice`, or by the ranker or transformer where there is one."""
    folder = room.model(run)
    for each in ("others", "networks"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    for name, array in known.others()._asdict().items():
        save(folder / "others" / f"{name}.npy", array)
    if isinstance(learned, Interpolated):
        write_json(folder / "ranker.json", learned.model_dump())
    if isinstance(learned, Reader):
        for name, array in learned.arrays().items():
            save(folder / "networks" / f"{name}.npy", array)
    told = {"run": run, "model": room.membership.model, "choice": choice}
    told |= {"ranks": isinstance(learned, Interpolated), "reads": isinstance(learned, Reader)}
    told |= {"catalogue": digest(room.membership.catalogue, known.data.item_count)}
    model = Kept(**told, features=room.membership.model.features, served=run)
    serve(room, model, run, _made(room, model, known, content))


def kept(room: Room, run: str) -> Kept | None:
    """The participant's model of `run`; none where it has none, a damaged one, or another catalogue since.

    Items are known by their place in the catalogue; new ones may have come to its end.  The ranker of another
    version knows other features, and one that knows items by their content needs that.
    """
    try:
        model = Kept.model_validate_json((room.model(run) / "model.json").read_text())
        items = others(room, model).counts.shape[1]
        if model.ranks:
            _ranker(room.model(run))
        if model.reads:
            reader(room, model)
    except (FileNotFoundError, KeyError, ValueError, EOFError):
        return None
    needs = {*model.model.content} - {*room.membership.modalities}
    same = not model.ranks or (model.features == model.model.features and not needs)
    return model if same and model.catalogue == digest(room.membership.catalogue, items) else None


def fresh(room: Room, model: Kept, prepared: Prepared, part: int, items: NDArray[np.int32]) -> Arrays:
    """What lists of `items` are made of, anew: own events before `part`, the others' of the training."""
    data, at = prepared.before(part), prepared.begins(part)
    own = own_snapshot(data, at, items, model.model)
    known = own.joined(others(room, model, data.item_count), model.model.windows)
    return _made(room, model, known, prepared.content)


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
    if model.reads:
        read, config = Reader.of_arrays(made), model.model.sequence
        return sequence.lists(read, config, data, own_items, made["popularity"], queries, top)
    if "popularity" in made:
        return top_popular(made["popularity"], queries, own_items, data.item_count, top)
    history = data.matrix()[queries.users][:, own_items].astype(np.float32)
    if model.ranks:
        found = two_stage.Retriever(**made)
        had = two_stage.lately(found, data, queries.users, model.model.two_stage)
        sources, many = two_stage.sources(found, history, had), model.model.two_stage.candidates
        listed = candidates(sources, queries, own_items, data.item_count, many)
        users, at = queries.users[listed.queries], prepared.begins(part)
        store = prepared.known(two_stage.STORE, users, listed.items, at)
        scores = ranker_scores(room.model(model.run), two_stage.features(found, listed, store, had))
        return ordered(listed.items, listed.sizes, scores, top)
    weights = made["weights"]
    return top_items(lambda rows: history[rows] @ weights, queries, own_items, data.item_count, top)


def fresh_lists(room: Room, model: Kept, prepared: Prepared, part: int) -> NDArray[np.int32]:
    """What the model, made anew, lists for the queries of `part` of what had been sold here before."""
    return lists(room, model, fresh(room, model, prepared, part, prepared.listable(part)), prepared, part)


def _made(room: Room, model: Kept, known: Snapshot, content: Content) -> Arrays:
    """What lists are made of, from what is known."""
    if model.ranks:
        of = content.of(model.model.content)
        return two_stage.retriever(known, model.model.two_stage, model.model.windows, of)._asdict()
    share, strength = model.choice.share, model.choice.strength
    if model.choice.kind == "popularity":
        made: Arrays = {"own_items": known.own_items, "popularity": known.popular(int(strength), share)}
        return made | (reader(room, model).of(known.own_items).arrays() if model.reads else {})
    return {"own_items": known.own_items, "weights": known.weights(share, strength)}


def others(room: Room, model: Kept, items: int = 0) -> Others:
    """What is kept of the others, who had none of the newer ones of the catalogue's `items`."""
    folder = room.model(model.run) / "others"
    found = Others(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Others._fields))
    counts, own_counts = (widened(each, items) for each in (found.counts, found.own_counts))
    return found._replace(counts=counts, own_counts=own_counts)


def ranker_scores(folder: Path, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """The ranker's scores of candidates by their features."""
    return _ranker(folder).scores(features.astype(np.float64))


def reader(room: Room, model: Kept) -> Reader:
    """The transformer of the training, of all items of then."""
    paths = (room.model(model.run) / "networks").glob("*.npy")
    return Reader.of_arrays({path.stem: np.load(path, mmap_mode="r") for path in paths})


def _ranker(folder: Path) -> Interpolated:
    return Interpolated.model_validate_json((folder / "ranker.json").read_text())
