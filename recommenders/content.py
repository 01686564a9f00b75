"""Likeness by content: cosines of embeddings of items with those of what a user had lately.

It needs nobody's events but the user's own, so an item that nobody had yet is found, and judged
(Lops, de Gemmis and Semeraro 2011, "Content-based recommender systems: state of the art and trends").
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recommenders.interactions import Interactions
from recommenders.topk import Score

Floats = NDArray[np.float32]
BLOCK = 1 << 16
"""Pairs that are likened at a time."""


def newest(
    data: Interactions, users: NDArray[np.int32], own_items: NDArray[np.int32], many: int
) -> NDArray[np.int32]:
    """The last `many` different items that each of the `users` had, newest first, (users, many).

    They are places in `own_items`, -1 where there are fewer.
    """
    place, row = np.full(data.item_count, -1, np.int64), np.full(data.user_count, -1, np.int64)
    place[own_items], row[users] = np.arange(len(own_items)), np.arange(len(users))
    rows, places = row[data.users[::-1]], place[data.items[::-1]]
    asked = (rows >= 0) & (places >= 0)
    pairs = rows[asked] * len(own_items) + places[asked]
    pairs = pairs[np.sort(np.unique(pairs, return_index=True)[1])]  # each once, where it was had last
    rows, places = np.divmod(pairs, max(len(own_items), 1))
    order = np.argsort(rows, kind="stable")
    rows, places = rows[order], places[order]
    nth = np.arange(len(rows)) - np.searchsorted(rows, rows)
    found = np.full((len(users), many), -1, np.int32)
    found[rows[nth < many], nth[nth < many]] = places[nth < many]
    return found


def nearest(vectors: Floats, lately: NDArray[np.int32]) -> Score:
    """A source of candidates: the mean cosine of each of the m items with what each query's user had lately.

    `vectors` (m, d) are of length 1 or 0, `lately` is as `newest` returns it; without an embedding it is 0.
    """
    rows, _ = np.nonzero(lately >= 0)
    columns, ones = lately[lately >= 0], np.ones(len(rows), np.float32)
    had = sparse.csr_array((ones, (rows, columns)), shape=(len(lately), len(vectors)))
    known = np.asarray(had @ np.asarray(vectors.any(axis=1, keepdims=True), np.float32))
    # Sparse times dense adds in one order, whatever the processor's threads.
    means = np.asarray(had @ vectors) / np.maximum(known, 1)
    every = np.ascontiguousarray(vectors.T)
    return lambda rows: np.asarray(sparse.csr_array(means[rows]) @ every)


def likeness(
    vectors: Floats, lately: NDArray[np.int32], asked: NDArray[np.int64], places: NDArray[np.int64]
) -> Floats:
    """The mean and the largest cosine of n items with what their queries' users had lately, (n, 2).

    Row i is of the query `asked[i]` and the item `places[i]`; NaN where there is nothing to compare.
    """
    known = np.asarray(vectors.any(axis=1))
    total, most = np.zeros(len(asked), np.float32), np.full(len(asked), -np.inf, np.float32)
    count = np.zeros(len(asked), np.float32)
    for each in lately.T:
        other = each[asked]
        both = np.flatnonzero((other >= 0) & known[other] & known[places])
        found = _cosines(vectors, places[both], other[both])
        total[both] += found
        most[both] = np.maximum(most[both], found)
        count[both] += 1
    some, nothing = count > 0, np.float32(np.nan)
    mean = np.where(some, total / np.maximum(count, 1), nothing)
    return np.column_stack([mean, np.where(some, most, nothing)])


def _cosines(vectors: Floats, here: NDArray[np.int64], there: NDArray[np.int32]) -> Floats:
    found = np.empty(len(here), np.float32)
    for start in range(0, len(here), BLOCK):
        rows = slice(start, start + BLOCK)
        # Row by row, not BLAS: the same bits however many rows there are.
        found[rows] = np.einsum("ij,ij->i", vectors[here[rows]], vectors[there[rows]])
    return found
