"""Two stages: cheap sources list candidates, boosted trees put them in order.

A row is a candidate of a query, a user at a moment; its features are what was known at that moment: the
sources' scores of it and its places by them, its popularity by window at the participant, overall, among the
participant's users who came back and of items with the same users, its popularity of the last days, in how
many lists it stands, what the feature store says of user and item, and how like it is by content to what the
user had lately.  All that comes from others comes from sums.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator
from scipy import sparse

from federation.frozen import Frozen
from recommenders.boosting import BoostingConfig
from recommenders.candidates import Candidates, Source
from recommenders.content import likeness, nearest, newest
from recommenders.interactions import Interactions
from recommenders.popularity import returning, windowed_counts
from recommenders.query_rows import places
from recommenders.snapshot import Snapshot
from recommenders.topk import Score

Floats = NDArray[np.float32]
Content = tuple[Floats, NDArray[np.int64]]
"""Embeddings of n items, (n, d), of unit length or 0; and where each modality's columns start, and the last's
end, (modalities + 1,)."""

NO_CONTENT: Content = np.zeros((0, 0), np.float32), np.zeros(1, np.int64)

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
    weighting: Literal["rows", "quality"] = Field(
        "rows",
        description="how the rows of participants weigh: all alike; or by quality, each by the share of its "
        "participant's events that passed cleaning",
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
    newest: Annotated[int, Field(ge=1)] = Field(
        10, description="of how many of a user's newest items likeness by content is taken"
    )
    boosting: BoostingConfig = Field(
        BoostingConfig(**_BOOSTING), description="the ranker's trees; what is not given stays as here"
    )

    @field_validator("boosting", mode="before")
    @classmethod
    def _beside_the_defaults(cls, given: Any) -> Any:
        return {**_BOOSTING, **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _weights_are_taken(self) -> "TwoStage":
        if self.weighting != "rows" and self.boosting.objective == "lambdarank":
            raise ValueError(
                "weighting: found quality with boosting.objective lambdarank, which weighs queries itself; "
                "expected rows, or binary"
            )
        return self


class Retriever(NamedTuple):
    """All that finding candidates and describing them takes, as of a moment, for m own items.

    `own` and `shared` are item-to-item weights without and with the others' X'X, `cosines` those of items by
    their users, (m, m).  `own_counts` and `total_counts` are as in `Snapshot`; `returned` counts own events
    of users who came back; `inherited` are own counts of other items times their cosines; each (windows,
    catalogue).  `last_days` counts own events of the `LAST_DAYS`, (2, catalogue).  `content` (m, d) and
    `starts` are what the own items' content is.
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
    content: Floats = NO_CONTENT[0]  # of models that were kept before there was content, too
    starts: NDArray[np.int64] = NO_CONTENT[1]

    @property
    def modalities(self) -> list[Floats]:
        """The embeddings of each modality, (m, its numbers)."""
        return [self.content[:, start:end] for start, end in pairwise(self.starts)]


def retriever(
    known: Snapshot, settings: TwoStage, windows: Sequence[int], content: Content = NO_CONTENT
) -> Retriever:
    """What a participant finds candidates with, with the others' sums; `content` is of the catalogue."""
    vectors, starts = content
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
        content=vectors[known.own_items] if vectors.size else vectors,
        starts=starts,
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


def lately(
    found: Retriever, data: Interactions, users: NDArray[np.int32], settings: TwoStage
) -> NDArray[np.int32]:
    """The newest of the own items that `users` had, for likeness by content, (users, at most `newest`)."""
    return newest(data, users, found.own_items, settings.newest if found.content.size else 0)


def sources(found: Retriever, history: sparse.csr_array, had: NDArray[np.int32]) -> list[Source]:
    """Item-to-item alone and with the others, neighbours, popularity by window, own and others', content.

    `history` (queries, m) is what each query's user had of the own items, `had` what `lately` tells of it.
    """
    scores: list[Source] = [_linear(history, weights) for weights in (found.own, found.shared, found.cosines)]
    for own, total in zip(found.own_counts, found.total_counts, strict=True):
        scores += [counts[found.own_items].astype(np.float32) for counts in (own, total - own)]
    return scores + [nearest(vectors, had) for vectors in found.modalities]


def names(windows: Sequence[int], content: Sequence[str] = ()) -> tuple[str, ...]:
    """The features' names, in order; `content` are the modalities."""
    whose = ("own", "overall", "returning", "inherited")
    counts = [f"{who}_popularity_{days}d" for days in windows for who in whose]
    counts += [f"last_{days}_days" for days in LAST_DAYS]
    alike = [f"{each}_likeness{which}" for each in content for which in ("", "_max")]
    return *SCORES, *(f"{score}_place" for score in SCORES), *counts, "lists", *STORE, *alike


def features(
    found: Retriever, listed: Candidates, store: NDArray[np.float64], had: NDArray[np.int32]
) -> Floats:
    """The rows of `names`, (n, f); `store` (n, len(STORE)) are the feature store's, `had` is of `lately`."""
    scores = listed.scores[:, : len(SCORES)]
    columns: list[NDArray[Any]] = [scores, *(places(each, listed.items, listed.sizes) for each in scores.T)]
    for counts in zip(found.own_counts, found.total_counts, found.returned, found.inherited, strict=True):
        columns += [_rate(each)[listed.items] for each in counts]
    columns += [_rate(each)[listed.items] for each in found.last_days]
    columns += [(~np.isnan(listed.places)).sum(axis=1), np.clip(store, -LARGEST, LARGEST)]
    own = np.searchsorted(found.own_items, listed.items)
    columns += [likeness(vectors, had, listed.queries, own) for vectors in found.modalities]
    return np.column_stack(columns).astype(np.float32)


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
