import hashlib
import math
from decimal import Decimal

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import BadInput
from recommenders import objectives
from recommenders.gradients import LEAF_BITS, derivatives, rounded
from recommenders.objectives import exp, log2


def slow_lambdas(scores, labels, truncation):
    """One query, pair by pair, as the papers and LightGBM's documentation have it."""
    order = sorted(range(len(scores)), key=lambda row: -scores[row])
    gain = [2.0**label - 1 for label in labels]
    ideal = sum(g / np.log2(i + 2) for i, g in enumerate(sorted(gain, reverse=True)[:truncation]))
    gradient, hessian, total = np.zeros(len(scores)), np.zeros(len(scores)), 0.0
    for i, first in enumerate(order[:truncation]):
        for j, second in list(enumerate(order))[i + 1 :]:
            if labels[first] == labels[second]:
                continue
            better, worse = (first, second) if labels[first] > labels[second] else (second, first)
            delta = scores[better] - scores[worse]
            swap = abs(1 / np.log2(i + 2) - 1 / np.log2(j + 2)) * (gain[better] - gain[worse]) / ideal
            if scores[order[0]] != scores[order[-1]]:
                swap /= 0.01 + abs(delta)
            p = 1 / (1 + np.exp(delta))
            for row, sign in ((better, -1), (worse, 1)):
                gradient[row] += sign * swap * p
                hessian[row] += swap * p * (1 - p)
            total += 2 * swap * p
    factor = np.log2(1 + total) / total if total > 0 else 1.0
    return gradient * factor, hessian * factor


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_lambdas_are_those_of_a_plain_loop(seed, truncation):
    r = np.random.default_rng(seed)
    queries = r.integers(1, 12, 5)
    labels = r.integers(0, 4, queries.sum()).astype(float)
    scores = np.round(r.normal(size=len(labels)), 1)
    gradient, hessian = derivatives("lambdarank", labels, queries, 1.0, truncation)(scores)
    parts = np.split(np.arange(len(labels)), np.cumsum(queries)[:-1])
    slow = [slow_lambdas(scores[rows], labels[rows], truncation) for rows in parts]
    np.testing.assert_allclose(gradient, np.concatenate([g for g, _ in slow]), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(hessian, np.concatenate([h for _, h in slow]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("objective", "weighted"),
    [("binary", False), ("binary", True), ("regression", False), ("regression", True), ("lambdarank", False)],
)
def test_derivatives_are_those_of_lightgbm(objective, weighted):
    """LightGBM tells them in its leaves, where every row has its own, or, weighted, four rows have one."""
    r = np.random.default_rng(3)
    rows, queries = 60, np.full(6, 10)
    features = (r.permutation(rows) // (4 if weighted else 1)).astype(float).reshape(-1, 1)
    labels = r.integers(0, 2 if objective == "binary" else 4, rows).astype(float)
    scores, weights = r.normal(size=rows), 1.0 - r.random(rows) if weighted else None
    parameters = dict(
        objective=objective, num_leaves=rows, min_data_in_leaf=1, min_data_in_bin=1, verbosity=-1
    )
    parameters |= dict(
        learning_rate=1.0, lambda_l2=0.0, min_sum_hessian_in_leaf=0.0, boost_from_average=False
    )
    data = lightgbm.Dataset(
        features, labels, weight=weights, group=queries, init_score=scores, params=parameters
    )
    booster = lightgbm.train(parameters, data, 1)
    gradient, hessian = derivatives(objective, labels, queries, 1.0, 30, weights)(scores)
    leaf = booster.predict(features, pred_leaf=True).ravel().astype(int)
    leaves = leaf.max() + 1
    assert leaves > rows // (8 if weighted else 2)
    value = -np.bincount(leaf, gradient, leaves) / np.bincount(leaf, hessian, leaves)
    np.testing.assert_allclose(booster.predict(features, raw_score=True), value[leaf], rtol=2e-4, atol=1e-5)


def test_labels_that_are_a_column_of_a_table_are_copied_once(monkeypatch):
    """The compiled loop takes several rows at once only where they lie side by side."""
    table, seen, plain = np.eye(3), [], objectives.binary
    monkeypatch.setattr(objectives, "binary", lambda *given: (seen.append(given[1]), plain(*given)))
    found = derivatives("binary", table[:, 1], None, 1.0, 30)(np.arange(3.0))
    assert np.array_equal(found, derivatives("binary", table[1], None, 1.0, 30)(np.arange(3.0)))
    assert all(labels.flags.c_contiguous for labels in seen)


def test_poisson_is_the_slope_of_its_likelihood():
    labels, scores = np.array([0.0, 3.0, 5.0]), np.array([0.5, -1.0, 2.0])
    gradient, hessian = derivatives("poisson", labels, None, 2.0, 30)(scores)
    np.testing.assert_allclose(gradient, (np.exp(scores) - labels) / 2)
    np.testing.assert_allclose(hessian, np.exp(scores) / 2)


GOLDEN = {
    "binary": "f9544bd2f1333928",
    "regression": "7674c3e961d93280",
    "poisson": "7ed366dfd8cafd97",
    "lambdarank": "8ca8d9f48e93cc0c",
}
"""Of SHA-256 over gradients and hessians."""


@pytest.mark.parametrize("objective", GOLDEN)
def test_derivatives_have_the_same_bits_on_every_processor(objective):
    scores = (np.arange(3000) * 7919 % 3001 - 1500) / 512.0
    labels = (np.arange(3000) * 104729 % 17 > 11) * 1.0
    derive = derivatives(objective, labels, np.full(300, 10), 1.25, 30)
    digest = hashlib.sha256()
    for values in (*derive(scores), *derive(scores[::-1].copy()), *derive(np.tile(scores[:30], 100))):
        digest.update(values.tobytes())
    assert digest.hexdigest()[:16] == GOLDEN[objective]


def places_off(found, exact):
    """By how many units of its last place `found` is off."""
    return abs(Decimal(found) - exact) / Decimal(math.ulp(found))


@given(st.floats(-708, 709))
def test_exp_is_off_by_less_than_a_unit(x):
    assert places_off(exp(x), Decimal(x).exp()) < 1


@given(st.floats(1e-300, 1e300).filter(lambda x: x != 1))
def test_log2_is_off_by_less_than_three_units(x):
    assert places_off(log2(x), Decimal(x).ln() / Decimal(2).ln()) < 3


def test_exp_and_log2_at_their_borders():
    assert [exp(0.0), exp(1e4), exp(-math.inf), log2(1.0)] == [1.0, exp(709.0), exp(-708.0), 0.0]
    assert [log2(2.0**power) for power in range(-1074, 1024)] == list(range(-1074, 1024))
    assert math.isnan(exp(math.nan))


def test_what_is_beyond_the_bound_is_clipped_and_counted():
    gradient, hessian = np.array([20.0, -np.inf, 0.5, 0.0]), np.array([1.0, 1.0, 99.0, 0.0])
    integers = rounded("regression", 10, gradient, hessian)
    assert integers.clipped == 3
    assert integers.growth.tolist() == [16 * 1024, -16 * 1024, 512, 0]
    assert integers.hessian.tolist() == [1 << LEAF_BITS, 1 << LEAF_BITS, 16 << LEAF_BITS, 0]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20))
@settings(max_examples=50)
def test_no_hessian_is_zero_under_a_gradient(values):
    integers = rounded("binary", 10, np.array(values), np.zeros(len(values)))
    assert ((integers.hessian > 0) == (np.array(values) != 0)).all()
    assert ((integers.hessian > 0) | (integers.growth == 0)).all()


@pytest.mark.parametrize(
    ("objective", "labels", "queries"),
    [
        ("binary", [0.0, 2.0], None),
        ("poisson", [-1.0], None),
        ("regression", [np.nan], None),
        ("regression", [], None),
        ("regression", [1.0, 1e200], None),
        ("poisson", [1e200], None),
        ("lambdarank", [1.0, 0.0], None),
        ("lambdarank", [1.0, 0.0], [1]),
        ("lambdarank", [0.5, 0.0], [2]),
        ("lambdarank", [31.0, 0.0], [2]),
    ],
)
def test_strange_labels_are_refused(objective, labels, queries):
    with pytest.raises(BadInput, match=f"^{objective}: expected"):
        derivatives(objective, np.array(labels), None if queries is None else np.array(queries), 1.0, 30)
