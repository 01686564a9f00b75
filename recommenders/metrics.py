"""Ranking metrics as additive sums over the full ranking; negatives are never sampled.

Krichene and Rendle (KDD 2020) show why sampled metrics mislead.  Per query, over the list of the
first k items: precision = hits/k, recall = hits/relevant, F1 their harmonic mean, hit rate = any hit,
MRR = 1/rank of the first hit, accuracy = the first item is relevant, NDCG with gains of 1 and the
ideal over min(k, relevant) (Järvelin and Kekäläinen 2002).  Coverage counts the items that anyone got.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federation.fixed_point import FixedPoint

NAMES = ("ndcg", "hit_rate", "precision", "recall", "f1", "mrr", "accuracy")
SUMS = FixedPoint(width=64, fraction_bits=28, terms=2**10, signed=True)
"""The form of sums over queries: up to 33 million at each of a thousand participants."""

COUNTS = FixedPoint(width=64, fraction_bits=0, terms=2**10, signed=True)


@dataclass(frozen=True)
class Queries:
    """What is asked: per query a user, what it has seen, and what turned out to be relevant.

    Row q has `seen_items[seen_starts[q]:seen_starts[q + 1]]`, and likewise for relevant ones.
    """

    users: NDArray[np.int32]
    seen_starts: NDArray[np.int64]
    seen_items: NDArray[np.int32]
    relevant_starts: NDArray[np.int64]
    relevant_items: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.users)


def per_query(top: NDArray[np.int32], queries: Queries) -> NDArray[np.float64]:
    """The metrics of `NAMES` for each query, shape (queries, 7); `top` is (queries, k), -1 where empty.

    In whole units of `SUMS`, so that sums of them are exact: it does not matter who holds which query.
    """
    k = top.shape[1]
    hits = relevant_to(queries, np.arange(len(queries))[:, None], top) & (top >= 0)
    found = hits.sum(axis=1)
    relevant = np.diff(queries.relevant_starts)
    discount, ideal = _discount(k), ideal_gain(relevant, k)
    precision, recall = found / k, found / relevant
    both = np.where(found > 0, precision + recall, 1.0)
    first = np.where(found > 0, 1 / (1.0 + hits.argmax(axis=1)), 0.0)
    gain = np.cumsum(hits * discount, axis=1)[:, -1]  # in one order, however many queries ask
    columns = [gain / ideal, found > 0, precision, recall, 2 * precision * recall / both, first, hits[:, 0]]
    unit = 2.0**-SUMS.fraction_bits
    return np.rint(np.column_stack(columns) / unit) * unit


def relevant_to(queries: Queries, asked: NDArray[np.int64], items: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether each of `items` is relevant to the query of its place in `asked`; shape of `items`."""
    width = int(max(items.max(initial=0), queries.relevant_items.max(initial=0))) + 1
    whose = np.repeat(np.arange(len(queries)), np.diff(queries.relevant_starts))
    return np.isin(asked * width + items, whose * width + queries.relevant_items)


def ideal_gain(relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """The largest DCG at k that is possible with so many relevant items, same shape."""
    found: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(_discount(k))])[np.minimum(relevant, k)]
    return found


def _discount(k: int) -> NDArray[np.float64]:
    return 1 / np.log2(np.arange(2, k + 2))


def metric_sums(top: NDArray[np.int32], queries: Queries) -> NDArray[np.float64]:
    """The additive form: sums of the metrics over the queries, and the number of queries; 8 numbers."""
    return np.append(per_query(top, queries).sum(axis=0), float(len(queries)))


def item_counts(top: NDArray[np.int32], item_count: int) -> NDArray[np.int64]:
    """How often each item was recommended; the sum's non-zero cells are what coverage counts."""
    return np.bincount(top[top >= 0].ravel(), minlength=item_count).astype(np.int64)


def metrics(sums: NDArray[np.float64], k: int, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
    """Means over all queries, by name (`ndcg_at_10`, ...), and `queries`; no means where nobody asked."""
    queries = float(sums[-1])
    named = zip(NAMES, sums[:-1], strict=True) if queries else ()
    means = {f"{name}_at_{1 if name == 'accuracy' else k}": float(value) / queries for name, value in named}
    if counts is not None:
        means[f"coverage_at_{k}"] = float(np.count_nonzero(counts)) / len(counts)
    return {**means, "queries": queries}


def bootstrap_sums(
    values: NDArray[np.float64], rng: np.random.Generator, draws: int = 200
) -> NDArray[np.float64]:
    """The additive form of a bootstrap of `values` (queries, models), shape (draws, models + 1).

    Each draw weighs each query by Poisson(1), as resampling with replacement does in the limit (Chamandy
    et al. 2012), so that participants draw for their own queries only; the last column is the sum of weights.
    """
    weights = (rng.poisson(1.0, len(values)).astype(np.float64) for _ in range(draws))
    return np.array([np.append(each @ values, each.sum()) for each in weights])


def bootstrap_errors(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard errors (models,) of the means, and of the first mean less each; NaN without queries.

    The draws are the same for all models, so the errors of differences are those of paired queries.
    """
    means = _drawn_means(sums)
    if len(means) < 2:
        return (np.full(sums.shape[1] - 1, np.nan),) * 2
    return means.std(axis=0, ddof=1), (means[:, :1] - means).std(axis=0, ddof=1)


def intervals(sums: NDArray[np.float64], arms: Sequence[str], k: int) -> dict[str, dict[str, float]]:
    """By arm, the 95 % bootstrap interval of NDCG, `ndcg_at_<k>_low` and `_high`; none without queries.

    The consortium's arm also has that of its gain over `alone`, of paired queries: `ndcg_at_<k>_gain_low`.
    """
    means = _drawn_means(sums)
    if len(means) < 2:
        return {}
    told = {arm: _interval(means[:, place], f"ndcg_at_{k}") for place, arm in enumerate(arms)}
    if {"alone", "consortium"} <= told.keys():
        gain = means[:, arms.index("consortium")] - means[:, arms.index("alone")]
        told["consortium"] |= _interval(gain, f"ndcg_at_{k}_gain")
    return told


def _interval(drawn: NDArray[np.float64], name: str) -> dict[str, float]:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {f"{name}_low": float(low), f"{name}_high": float(high)}


def _drawn_means(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The means (draws, models) of the draws in which anybody was asked."""
    drawn = sums[sums[:, -1] > 0]
    means: NDArray[np.float64] = drawn[:, :-1] / drawn[:, -1:]
    return means
