"""One participant's user-item pairs, in indices of the common catalogue."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


@dataclass(frozen=True)
class Interactions:
    """Events as arrays of one length, in the order in which they happened.

    `users` are codes below `user_count`, `items` indices of a catalogue of `item_count`, `times`
    microseconds since 1970.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    user_count: int
    item_count: int

    def where(self, keep: NDArray[np.bool_] | slice) -> "Interactions":
        """The events for which `keep` is true, or those of a slice."""
        return Interactions(
            self.users[keep], self.items[keep], self.times[keep], self.user_count, self.item_count
        )

    def matrix(self) -> sparse.csr_array:
        """X of shape (users, items): 1 where a user had an item at least once."""
        shape = (self.user_count, self.item_count)
        ones = np.ones(len(self.users), np.int32)
        matrix = sparse.csr_array((ones, (self.users, self.items)), shape=shape)
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return matrix

    def own_items(self) -> NDArray[np.int32]:
        """The part of the catalogue that occurs here, ascending."""
        return np.unique(self.items).astype(np.int32)


def taken(
    data: Interactions,
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    at: NDArray[np.int64],
    window: int,
) -> NDArray[np.bool_]:
    """Whether each of `users` (n,) had the item beside it in `items` from the moment `at` (n,) on, (n,).

    The event counts where it is no more than `window` later; moments and window are in microseconds.
    """
    pairs, asked = (
        u.astype(np.int64) * data.item_count + i for u, i in ((data.users, data.items), (users, items))
    )
    order = np.argsort(pairs, kind="stable")
    first, last = (np.searchsorted(pairs[order], asked, side) for side in ("left", "right"))
    counts = last - first
    rows = np.repeat(np.arange(len(asked)), counts)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    after = data.times[order[places]] - at[rows]
    return np.bincount(rows[(after >= 0) & (after <= window)], minlength=len(asked)) > 0
