"""Rows of queries, one query after another: those that teach an order, and the order that scores give."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recommenders.boosting import Rows
from recommenders.metrics import ideal_gain


class Labelled(NamedTuple):
    """A part's rows: features (n, f) and labels (n,); each query's number of rows and of relevant items.

    All weigh `weight`, above 0 and up to 1.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    relevant: NDArray[np.int64]
    weight: float = 1.0


def training_rows(parts: Iterable[Labelled], k: int) -> Rows:
    """The rows of the queries that have a relevant candidate: others teach no order.

    Each weighs its part's weight times what a hit brings of its query's NDCG at `k`: 1 over the ideal.
    """
    found = [_with_a_hit(part) for part in parts]
    weights = [np.repeat(each.weight / ideal_gain(each.relevant, k), each.sizes) for each in found]
    features = np.concatenate([each.values for each in found], dtype=np.float64)
    hits = np.concatenate([each.labels for each in found], dtype=np.float64)
    sizes = np.concatenate([each.sizes for each in found], dtype=np.int64)
    return Rows(features, hits, sizes, np.concatenate(weights))


def ordered(
    items: NDArray[np.int32], sizes: NDArray[np.int64], scores: NDArray[np.float64], k: int
) -> NDArray[np.int32]:
    """The first `k` candidates of each query by `scores`, (queries, k), -1 where there are fewer."""
    place = places(scores, items, sizes)
    first = place < k
    top = np.full((len(sizes), k), -1, np.int32)
    top[np.repeat(np.arange(len(sizes)), sizes)[first], place[first]] = items[first]
    return top


def places(scores: NDArray[Any], items: NDArray[np.int32], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each candidate in its query, from 0, the largest of `scores` (n,) first, then by item."""
    order = np.lexsort((items, -scores, np.repeat(np.arange(len(sizes)), sizes)))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _with_a_hit(part: Labelled) -> Labelled:
    asked = np.repeat(np.arange(len(part.sizes)), part.sizes)
    hit = np.bincount(asked, part.labels, len(part.sizes)) > 0
    rows = hit[asked]
    values, labels, sizes, relevant = (
        part.values[rows],
        part.labels[rows],
        part.sizes[hit],
        part.relevant[hit],
    )
    return Labelled(values, labels, sizes, relevant, part.weight)
