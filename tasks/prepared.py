"""A participant's events as one run sees them: in indices of the catalogue, cut into parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feature_store import splits
from feature_store.content import NOTHING, Content
from feature_store.features import FEATURES, AsOfFeatures, Events
from recommenders.interactions import Interactions
from recommenders.metrics import Queries


@dataclass(frozen=True)
class Prepared:
    """Events in indices of the catalogue, and which part of the split each is in.

    Part 0 is only learned from; the last part is the test, the one before it validation, and those between
    train a ranker by what was had in them.  `moments` (microseconds since 1970) are when parts 1, 2, ...
    begin; empty where the split has no cut in time.  `known_at` (events,) is when each event had both
    happened and become known.  `content` is that of the catalogue's items, where it is told.  `quality` is
    the share of the rows that passed cleaning.
    """

    data: Interactions
    part: NDArray[np.int8]
    user_ids: pa.Array
    moments: tuple[int, ...]
    known_at: NDArray[np.int64]
    history: Events
    content: Content = NOTHING
    quality: float = 1.0

    @property
    def validation(self) -> int:
        """The part on which everything is chosen."""
        return max(len(self.moments), 2) - 1

    def scored_in(self, number: int) -> int:
        """The part that round `number` scores: validation, then test."""
        return self.validation + number

    def opened_in(self, number: int) -> range:
        """The parts as of whose beginning round `number` opens sums; each is opened once in a run."""
        return (
            range(1, self.validation + 1) if number == 0 else range(self.validation + 1, self.validation + 2)
        )

    def before(self, part: int) -> Interactions:
        """What is known when `part` begins."""
        return self.data.where(self._past(part))

    def sold(self, part: int) -> NDArray[np.int32]:
        """The items that are known here when `part` begins, as they had been had before, ascending."""
        return self.before(part).own_items()

    def embeddings(self, modalities: Sequence[str]) -> NDArray[np.float32]:
        """Those of all items, beside each other, (catalogue, d); d is 0 where there is no content."""
        if not modalities:
            return np.zeros((self.data.item_count, 0), np.float32)
        return self.content.of(modalities)[0]

    def listable(self, part: int) -> NDArray[np.int32]:
        """These, and what the content's file says that anybody might list by then, ascending."""
        return np.union1d(self.sold(part), self.content.listed_at(self.begins(part)))

    def served(self) -> NDArray[np.int32]:
        """The items that may be listed now: had here, in the test, too, or told of by its last event."""
        now = int(self.data.times.max(initial=0)) + 1
        return np.union1d(self.data.own_items(), self.content.listed_at(now))

    def begins(self, part: int) -> int:
        """When `part` begins; where each user's last items are withheld: the end of what is known before."""
        if self.moments:
            return self.moments[part - 1]
        return int(self.data.times[self.part < part].max(initial=0)) + 1

    def queries(self, part: int) -> Queries:
        """Who is asked in `part`, what they have seen, what turned out to be relevant.

        Of a part before the test that is what was known at its end: more could teach and choose nothing yet.
        """
        kept = self._past(part) | (self.part == part)
        if part <= self.validation:
            kept &= self._past(part + 1)
        asked = splits.queries(self.data.users[kept], self.data.items[kept], self.part[kept], part)
        return Queries(**vars(asked))

    def known(
        self, names: Sequence[str], users: NDArray[np.int32], items: NDArray[np.int32], at: int
    ) -> NDArray[np.float64]:
        """The feature store's features `names` of (user, item) as of the moment `at`, (n, names)."""
        return store_features(self._features, names, users, items, at)

    def _past(self, part: int) -> NDArray[np.bool_]:
        past: NDArray[np.bool_] = self.part < part
        return past & (self.known_at < self.begins(part)) if self.moments else past

    @cached_property
    def _features(self) -> AsOfFeatures:
        return AsOfFeatures(self.history)


def store_features(
    features: AsOfFeatures,
    names: Sequence[str],
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    at: int,
) -> NDArray[np.float64]:
    """The features `names` of (user, item) as of the moment `at`, (n, names)."""
    places = [[feature.name for feature in FEATURES].index(name) for name in names]
    return features.ask(users, items, np.full(len(users), at))[:, places]
