"""Ranking metrics against a slow version that is plainly right, and against scikit-learn."""

import math
import tracemalloc

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from recommenders.metrics import (
    COUNTS,
    NAMES,
    SUMS,
    Queries,
    bootstrap_errors,
    bootstrap_sums,
    intervals,
    item_counts,
    metric_sums,
    metrics,
    per_query,
)

ITEMS = 12


def asked(relevant):
    starts = np.cumsum([0] + [len(each) for each in relevant])
    items = np.concatenate([sorted(each) for each in relevant]).astype(np.int32)
    nobody = np.zeros(len(relevant) + 1, np.int64)
    return Queries(np.arange(len(relevant), dtype=np.int32), nobody, np.zeros(0, np.int32), starts, items)


def slow(top, relevant):
    """One query's metrics, word by word."""
    top = [item for item in top if item >= 0]
    hits = [item in relevant for item in top]
    found, k = sum(hits), K
    precision, recall = found / k, found / len(relevant)
    gain = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(relevant))))
    f1 = 2 * precision * recall / (precision + recall) if found else 0.0
    first = next((1 / (rank + 1) for rank, hit in enumerate(hits) if hit), 0.0)
    return [gain / ideal, float(found > 0), precision, recall, f1, first, float(bool(hits and hits[0]))]


K = 5
lists = st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=K)
relevant_sets = st.sets(st.integers(0, ITEMS - 1), min_size=1)


@given(st.lists(st.tuples(lists, relevant_sets), min_size=1, max_size=6))
def test_every_metric_equals_the_slow_version(cases):
    top = np.array([found + [-1] * (K - len(found)) for found, _ in cases], np.int32)
    queries = asked([relevant for _, relevant in cases])
    expected = np.array([slow(found, relevant) for found, relevant in cases])
    assert per_query(top, queries) == pytest.approx(expected, abs=2**-29)
    told = metrics(metric_sums(top, queries), K)
    for column, name in enumerate(NAMES):
        key = f"{name}_at_{1 if name == 'accuracy' else K}"
        assert told[key] == pytest.approx(expected[:, column].mean(), abs=2**-29)


def test_ndcg_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = rng.permutation(ITEMS)
        relevant = set(rng.choice(ITEMS, rng.integers(1, ITEMS), replace=False).tolist())
        truth = np.isin(np.arange(ITEMS), list(relevant)).astype(float)
        score = np.empty(ITEMS)
        score[order] = -np.arange(ITEMS)
        ours = per_query(order[None, :K].astype(np.int32), asked([relevant]))[0, 0]
        assert ours == pytest.approx(sklearn.ndcg_score(truth[None], score[None], k=K))


@given(st.lists(st.tuples(lists, relevant_sets), min_size=2, max_size=8), st.integers(1, 7))
def test_sums_of_parts_are_the_sum_of_all(cases, cut):
    cut = min(cut, len(cases) - 1)
    top = np.array([found + [-1] * (K - len(found)) for found, _ in cases], np.int32)
    whole = metric_sums(top, asked([relevant for _, relevant in cases]))
    halves = [
        metric_sums(top[part], asked([relevant for _, relevant in cases[part]]))
        for part in (slice(0, cut), slice(cut, None))
    ]
    np.testing.assert_array_equal(whole, halves[0] + halves[1])
    np.testing.assert_array_equal(SUMS.decode(SUMS.encode(whole)), whole)


def test_a_query_s_metrics_do_not_depend_on_the_others():
    rng = np.random.default_rng(0)
    top = rng.permuted(np.tile(np.arange(50, dtype=np.int32), (500, 1)), axis=1)[:, :10]
    relevant = [{*range(number % 9 + 1)} for number in range(500)]
    apart = [per_query(row[None], asked([each])) for row, each in zip(top, relevant, strict=True)]
    np.testing.assert_array_equal(per_query(top, asked(relevant)), np.concatenate(apart))


def test_sums_over_many_queries_fit_their_words():
    many = np.full(len(NAMES) + 1, 33e6)
    np.testing.assert_array_equal(SUMS.decode(SUMS.encode(many)), many)


def test_coverage_counts_items_that_anyone_got():
    top = np.array([[0, 1], [1, -1]], np.int32)
    counts = item_counts(top, 4)
    assert counts.tolist() == [1, 2, 0, 0]
    told = metrics(metric_sums(top, asked([{0}, {3}])), 2, COUNTS.decode(COUNTS.encode(counts)))
    assert told["coverage_at_2"] == 0.5
    assert told["queries"] == 2


def test_where_nobody_asked_there_are_no_means():
    assert metrics(np.zeros(len(NAMES) + 1), K) == {"queries": 0}


def test_intervals_are_those_of_scipy_s_bootstrap():
    rng = np.random.default_rng(0)
    alone = rng.random(400)
    together = alone + rng.normal(0.05, 0.2, 400)
    told = intervals(
        bootstrap_sums(np.column_stack([alone, together]), rng, 4000), ("alone", "consortium"), K
    )
    expected = {"": together, "_gain": together - alone}
    for name, values in expected.items():
        theirs = scipy.stats.bootstrap((values,), np.mean, rng=rng, method="percentile").confidence_interval
        found = [told["consortium"][f"ndcg_at_5{name}_{end}"] for end in ("low", "high")]
        assert found == pytest.approx(list(theirs), abs=0.002)
    assert set(told["alone"]) == {"ndcg_at_5_low", "ndcg_at_5_high"}
    assert intervals(np.zeros((4000, 3)), ("alone", "consortium"), K) == {}


def test_bootstrap_sums_of_participants_add_to_one_of_the_consortium():
    """Errors from Poisson weights are those of the mean: sd / sqrt(n), and of paired differences."""
    rng = np.random.default_rng(0)
    better = rng.random((4000, 1))
    values = np.hstack([better, better - 0.1 * rng.random((4000, 1))])
    parts = [bootstrap_sums(part, np.random.default_rng(number), 400) for number, part in
             enumerate(np.split(values, [700, 2500]))]  # fmt: skip
    errors, of_differences = bootstrap_errors(np.sum(parts, axis=0))
    expected = values.std(axis=0) / 4000**0.5
    assert errors == pytest.approx(expected, rel=0.15)
    assert of_differences[0] == 0
    assert of_differences[1] == pytest.approx((values[:, 0] - values[:, 1]).std() / 4000**0.5, rel=0.15)
    assert np.isnan(bootstrap_errors(np.zeros((10, 3)))[0]).all()


def test_a_bootstrap_holds_one_draw_at_a_time():
    values = np.ones((20_000, 2))
    tracemalloc.start()
    bootstrap_sums(values, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * values.nbytes
