"""A list for one of a participant's own users, from its own model, with its events as they are now.

Where the consortium explores, its last places are for what its policy finds worth trying, and it is kept.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from feature_store.catalogue import index, read_catalogue
from feature_store.features import AsOfFeatures, events_of
from federation.errors import BadInput
from recommenders import exploration, sequence, two_stage
from recommenders.candidates import candidates
from recommenders.interactions import Interactions
from recommenders.metrics import Queries
from recommenders.popularity import DAY, blend, left_of, moved
from tasks import exploring
from tasks.own_model import Kept, kept, others, ranker_scores, reader, served
from tasks.prepared import store_features
from tasks.room import Room
from tasks.terms import counts


def recommend(room: Room, run: str, user: str, top: int) -> dict[str, Any]:
    """The first `top` items for `user`, best first, with scores; raises `BadInput` for an unknown one.

    The last `explore.places` of them are worth trying, though of lower scores; then what is shown is kept.
    """
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
    best = np.lexsort((found, -scores))
    if room.membership.explore.places:
        contexts = _contexts(room, model, own, code, found[best], at)
        best = best[exploring.show(room, user, catalogue.take(found[best]), contexts, top)]
    best = best[:top]
    return {"items": catalogue.take(found[best]).to_pylist(), "scores": scores[best].tolist()}


def _asked(room: Room, run: str) -> Kept:
    model = kept(room, run)
    if model is None and (room.model(run) / "model.json").is_file():
        raise BadInput(
            f"{room.name}: {room.membership.catalogue} has changed since run {run}, whose places of items it "
            "is, or the model is damaged, of another version, or of content that is no longer told; expected "
            "catalogue and content of then, or a new run"
        )
    if model is None:
        raise BadInput(f"{room.name}: has no model of run {run}; expected one of a finished run")
    return model


def _counts(
    room: Room, model: Kept, own: Interactions, at: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The own counts as of the moment `at`, and with them everybody's as estimated, (windows, catalogue)."""
    mine, theirs = counts(own, at, model.model), others(room, model, own.item_count)
    left = left_of(model.model.windows, at - int(theirs.moment[0]))
    return mine, mine + moved(theirs.counts, theirs.own_counts, mine, left)


def _contexts(
    room: Room, model: Kept, own: Interactions, user: int, listed: NDArray[np.int32], at: int
) -> NDArray[np.float64]:
    """The contexts of items, in the order of the model's list, as of the moment `at`."""
    mine, total = _counts(room, model, own, at)
    recent, whole = np.argmin(model.model.windows), np.argmax(model.model.windows)
    first = np.full(own.item_count, at)
    np.minimum.at(first, own.items, own.times)
    counts = mine[whole, listed], (total - mine)[whole, listed], mine[recent, listed]
    return exploration.contexts(*counts, (at - first[listed]) / DAY, int((own.users == user).sum()))


def _scored(
    room: Room, model: Kept, own: Interactions, user: int, seen: NDArray[np.int32], at: int
) -> tuple[NDArray[np.int32], NDArray[np.floating[Any]]]:
    """The items of `_listable` that were not seen, with popularity as of `at` or item-to-item as score.

    Where a transformer reads, with the logarithm of popularity and what it says of the user's history.
    """
    if model.choice.kind == "popularity":
        window, own_items = int(model.choice.strength), _listable(room, model, own)
        mine, total = _counts(room, model, own, at)
        scores = blend(mine[window], total[window], model.choice.share)[own_items]
        if model.reads:
            histories, config = sequence.Histories(own, own_items), model.model.sequence
            read = reader(room, model).of(own_items)
            scores = sequence.scored(read, config, histories, scores, np.array([user]))[0]
    else:
        made = served(room, model)
        own_items = made["own_items"]
        scores = made["weights"][np.isin(own_items, seen)].sum(axis=0)
    new = ~np.isin(own_items, seen)
    return own_items[new], scores[new]


def _listable(room: Room, model: Kept, own: Interactions) -> NDArray[np.int32]:
    """The own items; of a transformer also what its content said that anybody may list, ascending."""
    items = own.own_items()
    return np.union1d(items, served(room, model)["own_items"]) if model.reads else items


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
    had = two_stage.lately(found, own, np.array([user], np.int32), model.model.two_stage)
    sources, many = two_stage.sources(found, history, had), model.model.two_stage.candidates
    nothing = np.zeros(0, np.int32)
    asked = Queries(np.zeros(1, np.int32), np.array([0, len(seen)]), seen, np.zeros(2, np.int64), nothing)
    listed = candidates(sources, asked, np.asarray(found.own_items), own.item_count, many)
    users = np.full(len(listed.items), user, np.int32)
    store = store_features(known, two_stage.STORE, users, listed.items, at)
    features = two_stage.features(found, listed, store, had)
    return listed.items, ranker_scores(room.model(model.run), features)
