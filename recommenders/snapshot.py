"""What a participant knows at a moment: its own events before it, and the consortium's sums as of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recommenders import item_to_item
from recommenders.choice import Choice
from recommenders.interactions import Interactions
from recommenders.metrics import Queries
from recommenders.popularity import blend, left_of, moved
from recommenders.topk import top_items, top_popular

Floats = NDArray[np.float32]


class Others(NamedTuple):
    """The others' part of a snapshot: counts (windows, catalogue), and X'X over the m `items`, (m, m).

    `own_counts` are the own at the same `moment`, (1,).
    """

    items: NDArray[np.int32]
    counts: NDArray[np.int64]
    own_counts: NDArray[np.int64]
    moment: NDArray[np.int64]
    gram: NDArray[Any]


@dataclass(frozen=True)
class Snapshot:
    """Own events and sums as of `moment` (microseconds since 1970).

    `own_counts` and `total_counts` (windows, catalogue) are the own and everybody's events in each window
    before it, the latter estimated where the others' are of an earlier moment; `own_gram` and `total_gram`
    are X'X of the own users and of everybody's, over the m `own_items`, (m, m).
    """

    data: Interactions
    moment: int
    own_items: NDArray[np.int32]
    own_counts: NDArray[np.int64]
    total_counts: NDArray[Any]
    own_gram: NDArray[Any]
    total_gram: NDArray[Any]

    def alone(self) -> "Snapshot":
        """The same, as if nobody else were there."""
        return replace(self, total_counts=self.own_counts, total_gram=self.own_gram)

    def others(self) -> Others:
        """What came from the others: the sums less the own terms."""
        gram = self.total_gram.astype(np.int32)  # sums of users; the blocks' own type may be unsigned
        gram -= self.own_gram
        counts, moment = self.total_counts - self.own_counts, np.array([self.moment], np.int64)
        return Others(self.own_items, counts, self.own_counts, moment, gram)

    def joined(self, others: Others, windows: Sequence[int]) -> "Snapshot":
        """The own events as they are here, and of the others what was kept of an earlier snapshot.

        Their counts in `windows` are taken to have moved since as the own have.
        """
        total = self.own_gram.copy()
        if others.gram.size:
            _, here, there = np.intersect1d(self.own_items, others.items, return_indices=True)
            total[np.ix_(here, here)] += others.gram[np.ix_(there, there)]
        left = left_of(windows, self.moment - int(others.moment[0]))
        theirs = moved(others.counts, others.own_counts, self.own_counts, left)
        return replace(self, total_counts=self.own_counts + theirs, total_gram=total)

    def lists(self, choice: Choice, queries: Queries, top: int) -> NDArray[np.int32]:
        """The lists of `queries` under `choice`, shape (queries, top)."""
        asked = queries, self.own_items, self.data.item_count, top
        if choice.kind == "popularity":
            return top_popular(self.popular(int(choice.strength), choice.share), *asked)
        history, weights = self.history(queries.users), self.weights(choice.share, choice.strength)
        return top_items(lambda rows: history[rows] @ weights, *asked)

    def popular(self, window: int, share: float) -> Floats:
        """Own counts in a window and a share of the others', (m,)."""
        return blend(self.own_counts[window], self.total_counts[window], share)[self.own_items]

    def weights(self, share: float, regularisation: float) -> Floats:
        """EASE on the own X'X and a share of the others', (m, m)."""
        mixed = item_to_item.shared_gram(self.own_gram, self.total_gram, share)
        return item_to_item.solve(mixed, regularisation)

    @cached_property
    def cosines(self) -> Floats:
        """How much the users of two items, of all participants, are the same, (m, m); 0 on the diagonal."""
        length = np.sqrt(np.maximum(np.diag(self.total_gram), 1.0)).astype(np.float32)
        found: Floats = self.total_gram.astype(np.float32)
        found /= length
        found /= length[:, None]
        np.fill_diagonal(found, 0.0)
        return found

    def history(self, users: NDArray[np.int32]) -> sparse.csr_array:
        """What each of the users had of the own items, (users, m), sparse."""
        return self.data.matrix()[users][:, self.own_items].astype(np.float32)
