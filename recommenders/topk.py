"""The first k items of each query, exactly, in blocks so that memory stays bounded."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from recommenders.metrics import Queries

Score = Callable[[slice], NDArray[np.float32]]
BLOCK = 512


def top_items(
    score: Score, queries: Queries, catalogue: NDArray[np.int32], item_count: int, k: int
) -> NDArray[np.int32]:
    """Catalogue indices, shape (queries, k), best first, -1 where fewer are left.

    `score(rows)` gives scores of a slice of the queries, shape (rows, len(catalogue)), for the items in
    `catalogue` (ascending indices).  What a query has seen is left out; of equal scores the lower index wins.
    """
    return each_top_items(lambda rows: (score(rows),), 1, queries, catalogue, item_count, k)[0]


def each_top_items(
    scores: Callable[[slice], Iterable[NDArray[np.float32]]],
    many: int,
    queries: Queries,
    catalogue: NDArray[np.int32],
    item_count: int,
    k: int,
) -> list[NDArray[np.int32]]:
    """The same by each of `many` scores of a slice of the queries, which are made together."""
    position = np.full(item_count, -1, np.int32)
    position[catalogue] = np.arange(len(catalogue), dtype=np.int32)
    found = [np.full((len(queries), k), -1, np.int32) for _ in range(many)]
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, min(start + BLOCK, len(queries)))
        for lists, scored in zip(found, scores(rows), strict=True):
            own = np.array(scored, np.float32)
            _leave_out_seen(own, queries, rows, position)
            columns = _best(own, min(k, len(catalogue)))
            picked = np.where(np.take_along_axis(own, columns, 1) > -np.inf, catalogue[columns], -1)
            lists[rows, : picked.shape[1]] = picked
    return found


def top_popular(
    scores: NDArray[np.float32], queries: Queries, catalogue: NDArray[np.int32], item_count: int, k: int
) -> NDArray[np.int32]:
    """The same where `scores` (len(catalogue),) are those of every query: sorted once, however many ask."""
    order = catalogue[np.lexsort((catalogue, -scores))]
    place = np.full(item_count, -1, np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    asked = np.repeat(np.arange(len(queries)), np.diff(queries.seen_starts))
    seen = place[queries.seen_items]
    found = np.full((len(queries), k), -1, np.int32)
    for start in range(0, len(queries), BLOCK):
        inside = slice(*np.searchsorted(asked, (start, start + BLOCK)))
        rows = min(BLOCK, len(queries) - start)
        # Of so many first ones, k are left whatever a query has seen.
        width = min(len(order), k + int(np.bincount(asked[inside] - start).max(initial=0)))
        free = np.ones((rows, width), np.bool_)
        hidden = (seen[inside] >= 0) & (seen[inside] < width)
        free[asked[inside][hidden] - start, seen[inside][hidden]] = False
        nth = np.cumsum(free, axis=1)
        row, column = np.nonzero(free & (nth <= k))
        found[start + row, nth[row, column] - 1] = order[column]
    return found


def _leave_out_seen(
    scores: NDArray[np.float32], queries: Queries, rows: slice, position: NDArray[np.int32]
) -> None:
    starts = queries.seen_starts[rows.start : rows.stop + 1]
    items = position[queries.seen_items[starts[0] : starts[-1]]]
    asked = np.repeat(np.arange(len(scores)), np.diff(starts))
    scores[asked[items >= 0], items[items >= 0]] = -np.inf


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the k largest of each row, best first: keys of 64 bits hold the score, then the column."""
    bits = (scores + np.float32(0)).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    columns = np.arange(scores.shape[1], dtype=np.uint64)
    keys = (ordered << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - columns)
    best = np.sort(np.partition(keys, scores.shape[1] - k, axis=1)[:, -k:], axis=1)[:, ::-1]
    return (np.uint64(0xFFFFFFFF) - (best & np.uint64(0xFFFFFFFF))).astype(np.int64)
