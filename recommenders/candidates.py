"""Candidates of a query: the union of what several sources list, with each one's score and place.

The first stage of a two-stage recommender (Covington et al. 2016): cheap sources list what a ranker then
orders.  A source lists what it scores above zero, so what it knows nothing of is no candidate.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recommenders.metrics import Queries
from recommenders.topk import BLOCK, Score, top_items, top_popular

Source = Score | NDArray[np.float32]
"""Scores of a slice of the queries, or what every query has, (own items,): sorted once, however many ask."""


class Candidates(NamedTuple):
    """n candidates, query by query, items ascending within one.

    `sizes` (queries,) counts them; `items` (n,) are catalogue indices; `scores` and `places` (n, sources)
    hold each source's score and the place in its list from 0, NaN where it does not list the item.
    """

    sizes: NDArray[np.int64]
    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    places: NDArray[np.float32]

    @property
    def queries(self) -> NDArray[np.int64]:
        """The query of each candidate, (n,)."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


def candidates(
    sources: Sequence[Source], queries: Queries, own_items: NDArray[np.int32], item_count: int, many: int
) -> Candidates:
    """What the sources list of `own_items` (ascending catalogue indices) that a query has not seen.

    Each source lists up to `many`, the best by its scores of a slice of the queries.
    """
    lists = [_listed(source, queries, own_items, item_count, many) for source in sources]
    keys, places = _union(lists, item_count)
    asked, items = np.divmod(keys, item_count)
    scores = _scores(sources, asked, np.searchsorted(own_items, items), len(queries))
    places[scores <= 0] = np.nan
    listed = ~np.isnan(places).all(axis=1)
    sizes = np.bincount(asked[listed], minlength=len(queries))
    return Candidates(sizes, items[listed].astype(np.int32), scores[listed], places[listed])


def _listed(source: Source, *asked: Any) -> NDArray[np.int32]:
    return top_popular(source, *asked) if isinstance(source, np.ndarray) else top_items(source, *asked)


def _union(
    lists: Sequence[NDArray[np.int32]], item_count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Keys query * item_count + item of all that is listed, ascending, and the place in each list."""
    each = [np.arange(len(top), dtype=np.int64)[:, None] * item_count + top for top in lists]
    keys = np.sort(np.concatenate([key[top >= 0] for key, top in zip(each, lists, strict=True)]))
    keys = keys[np.diff(keys, prepend=-1) != 0]  # np.unique hashes: 40 times as long for millions
    places = np.full((len(keys), len(lists)), np.nan, np.float32)
    for source, (key, top) in enumerate(zip(each, lists, strict=True)):
        place = np.broadcast_to(np.arange(top.shape[1]), top.shape)
        places[np.searchsorted(keys, key[top >= 0]), source] = place[top >= 0]
    return keys, places


def _scores(
    sources: Sequence[Source], asked: NDArray[np.int64], columns: NDArray[np.int64], queries: int
) -> NDArray[np.float32]:
    found = np.empty((len(asked), len(sources)), np.float32)
    for start in range(0, queries, BLOCK):
        rows = slice(start, min(start + BLOCK, queries))
        these = slice(*np.searchsorted(asked, (rows.start, rows.stop)))
        for place, source in enumerate(sources):
            if isinstance(source, np.ndarray):
                found[these, place] = source[columns[these]]
            else:
                found[these, place] = source(rows)[asked[these] - start, columns[these]]
    return found
