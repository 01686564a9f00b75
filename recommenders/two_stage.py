"""Two stages: cheap sources list candidates, boosted trees put them in order.

A row is a candidate of a query, a user at a moment; its features are what was known at that moment: the
sources' scores of it and its places by them, its popularity by window at the participant, overall, among the
participant's users who came back and of items with the same users, its popularity of the last days, in how
many lists it stands, and what the feature store says of user and item.  All that comes from others comes from
sums.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy import sparse

from federation.frozen import Frozen
from recommenders.boosting import BoostingConfig, Rows
from recommenders.candidates import Candidates, Source
from recommenders.interactions import Interactions
from recommenders.metrics import ideal_gain
from recommenders.popularity import returning, windowed_counts
from recommenders.snapshot import Snapshot
from recommenders.topk import Score

Floats = NDArray[np.float32]

SCORES = ("own_score", "shared_score", "neighbours")
"""Scores of the personal sources, in order."""

STORE = ("user_count", "user_recency", "user_mean_value", "item_age", "item_mean_value")
"""Features that the feature store gives of (user, item, moment), in order."""

LAST_DAYS = (3, 14)
"""Days of own events before the moment that are counted beside the windows: what has just come up."""

LARGEST = float(np.finfo(np.float32).max)
"""A mean value beyond it counts as it: a feature is finite or missing."""

PER = 1e4
"""Popularity is told in events of the item among so many of its window."""

_BOOSTING: dict[str, Any] = {
    "objective": "binary",
    "trees": 200,
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 200,
    "max_bin": 63,
    "gradient_bits": 14,
    "feature_fraction": 0.5,
}


Share = Annotated[float, Field(ge=0, le=1)]


class TwoStage(Frozen):
    """How candidates are found and how the ranker is grown."""

    candidates: Annotated[int, Field(ge=1)] = Field(20, description="items that each source may list")
    share: Share = Field(
        0.1, description="how much of the others' X'X the item-to-item source adds to the own"
    )
    regularisation: Annotated[float, Field(gt=0)] = Field(
        50.0, description="lambda of the item-to-item source (EASE, Steck 2019)"
    )
    learn_from: Annotated[int, Field(ge=1)] = Field(
        2,
        description="windows before validation, each of as many events as it, whose labels train the ranker",
    )
    trees_per_round: Annotated[int, Field(ge=1)] = Field(
        20, description="trees of a federated round; then the consortium's validation parts are scored"
    )
    patience: Annotated[int, Field(ge=1)] = Field(
        5, description="rounds without a gain of the consortium's NDCG after which growing stops"
    )
    own_shares: Annotated[tuple[Share, ...], Field(min_length=1)] = Field(
        (0.25, 0.0, 0.5, 0.75, 1.0),
        description="weights of a participant's own trees beside the consortium's; the first holds unless "
        "its validation part likes another better by more than two standard errors",
    )
    boosting: BoostingConfig = Field(
        BoostingConfig(**_BOOSTING), description="the ranker's trees; what is not given stays as here"
    )

    @field_validator("boosting", mode="before")
    @classmethod
    def _beside_the_defaults(cls, given: Any) -> Any:
        return {**_BOOSTING, **given} if isinstance(given, dict) else given


class Retriever(NamedTuple):
    """All that finding candidates and describing them takes, as of a moment, for m own items.

    `own` and `shared` are item-to-item weights without and with the others' X'X, `cosines` those of items by
    their users, (m, m).  `own_counts` and `total_counts` are as in `Snapshot`; `returned` counts own events
    of users who came back; `inherited` are own counts of other items times their cosines; each (windows,
    catalogue).  `last_days` counts own events of the `LAST_DAYS`, (2, catalogue).
    """

    own_items: NDArray[np.int32]
    own_counts: NDArray[np.int64]
    total_counts: NDArray[Any]
    returned: NDArray[np.int64]
    inherited: Floats
    last_days: NDArray[np.int64]
    own: Floats
    shared: Floats
    cosines: Floats


def retriever(known: Snapshot, settings: TwoStage, windows: Sequence[int]) -> Retriever:
    """What a participant finds candidates with, with the others' sums."""
    own = known.weights(0.0, settings.regularisation)
    shared = known.weights(settings.share, settings.regularisation)
    return Retriever(
        own_items=known.own_items,
        own_counts=known.own_counts,
        total_counts=known.total_counts,
        inherited=_inherited(known),
        own=own,
        shared=shared,
        cosines=known.cosines,
        **fresh_counts(known.data, known.moment, windows),
    )


def fresh_counts(data: Interactions, moment: int, windows: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    """A retriever's `returned` and `last_days`, of the events in `data` before `moment`."""
    asked = {"returned": (returning(data), windows), "last_days": (data, LAST_DAYS)}
    return {
        name: np.stack([windowed_counts(events, moment, days) for days in spans])
        for name, (events, spans) in asked.items()
    }


def alone(known: Snapshot, found: Retriever) -> Retriever:
    """The same, as if nobody else were there."""
    apart = known.alone()
    return found._replace(
        total_counts=known.own_counts,
        inherited=_inherited(apart),
        shared=found.own,
        cosines=apart.cosines,
    )


def sources(found: Retriever, history: sparse.csr_array) -> list[Source]:
    """Item-to-item alone and with the others, neighbours, and popularity by window, own and of the others.

    `history` (queries, m) is what each query's user had of the own items.
    """
    scores: list[Source] = [_linear(history, weights) for weights in (found.own, found.shared, found.cosines)]
    for own, total in zip(found.own_counts, found.total_counts, strict=True):
        scores += [counts[found.own_items].astype(np.float32) for counts in (own, total - own)]
    return scores


def names(windows: Sequence[int]) -> tuple[str, ...]:
    """The features' names, in order."""
    whose = ("own", "overall", "returning", "inherited")
    counts = [f"{who}_popularity_{days}d" for days in windows for who in whose]
    counts += [f"last_{days}_days" for days in LAST_DAYS]
    return *SCORES, *(f"{score}_place" for score in SCORES), *counts, "lists", *STORE


def features(found: Retriever, listed: Candidates, store: NDArray[np.float64]) -> Floats:
    """The rows of `names`, (n, f); `store` (n, len(STORE)) are the feature store's."""
    scores = listed.scores[:, : len(SCORES)]
    columns: list[NDArray[Any]] = [scores, *(_places(each, listed.items, listed.sizes) for each in scores.T)]
    for counts in zip(found.own_counts, found.total_counts, found.returned, found.inherited, strict=True):
        columns += [_rate(each)[listed.items] for each in counts]
    columns += [_rate(each)[listed.items] for each in found.last_days]
    columns += [(~np.isnan(listed.places)).sum(axis=1), np.clip(store, -LARGEST, LARGEST)]
    return np.column_stack(columns).astype(np.float32)


class Labelled(NamedTuple):
    """A part's rows: features (n, f) and labels (n,); each query's number of rows and of relevant items."""

    values: Floats
    labels: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    relevant: NDArray[np.int64]


def training_rows(parts: Iterable[Labelled], k: int) -> Rows:
    """The rows of the queries that have a relevant candidate: others teach no order.

    Each weighs what a hit brings of its query's NDCG at `k`: 1 over the ideal.
    """
    values, labels, sizes, relevant = zip(*(_with_a_hit(part) for part in parts), strict=True)
    weights = np.repeat(1.0 / ideal_gain(np.concatenate(relevant), k), np.concatenate(sizes))
    features, hits = (np.concatenate(each, dtype=np.float64) for each in (values, labels))
    return Rows(features, hits, np.concatenate(sizes, dtype=np.int64), weights)


def ordered(
    items: NDArray[np.int32], sizes: NDArray[np.int64], scores: NDArray[np.float64], k: int
) -> NDArray[np.int32]:
    """The first `k` candidates of each query by `scores`, (queries, k), -1 where there are fewer."""
    place = _places(scores, items, sizes)
    first = place < k
    top = np.full((len(sizes), k), -1, np.int32)
    top[np.repeat(np.arange(len(sizes)), sizes)[first], place[first]] = items[first]
    return top


def _inherited(known: Snapshot) -> Floats:
    """For each item the own counts of the others, each times its cosine with the item: (windows, catalogue).

    A new item with the same users as items that sell well will sell, too.
    """
    # Sparse times dense adds in one order, whatever the processor's threads.
    own = sparse.csr_array(known.own_counts[:, known.own_items].astype(np.float32))
    found = np.zeros(known.own_counts.shape, np.float32)
    found[:, known.own_items] = own @ known.cosines
    return found


def _linear(history: sparse.csr_array, weights: Floats) -> Score:
    return lambda rows: np.asarray(history[rows] @ weights)


def _rate(counts: NDArray[Any]) -> Floats:
    return (counts * (PER / max(float(counts.sum()), 1.0))).astype(np.float32)


def _places(scores: NDArray[Any], items: NDArray[np.int32], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each candidate in its query, from 0, the largest of `scores` (n,) first, then by item."""
    order = np.lexsort((items, -scores, np.repeat(np.arange(len(sizes)), sizes)))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _with_a_hit(part: Labelled) -> Labelled:
    asked = np.repeat(np.arange(len(part.sizes)), part.sizes)
    hit = np.bincount(asked, part.labels, len(part.sizes)) > 0
    rows = hit[asked]
    return Labelled(part.values[rows], part.labels[rows], part.sizes[hit], part.relevant[hit])
