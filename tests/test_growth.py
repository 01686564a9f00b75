import re
import subprocess
import sys
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parties import agreed

from federation.channel import Solo
from recommenders.bins import Bins, agree
from recommenders.boosting import BoostingConfig, Rows, State
from recommenders.gradients import derivatives, rounded
from recommenders.growth import begin, binned, grow
from recommenders.histograms import ROW
from recommenders.learner import _seed, lightgbm_parameters
from recommenders.trees import blocks, find_leaves, read_leaves, read_tree, set_leaves, walk

OBJECTIVES = ("binary", "regression", "poisson", "lambdarank")


def together(parts, bins, config, rounds, threads=1):
    """The model of several participants, stopped after each of `rounds` numbers of trees and continued."""
    state = agreed(lambda rows, channel: begin(channel, rows, bins, config), parts)
    for number, trees in enumerate(rounds, start=1):
        known = State.model_validate_json(state.model_dump_json())

        def work(rows, channel, known=known, trees=trees):
            return grow(channel, rows, known, config, trees, threads)

        state = agreed(work, parts, number)
    return state


def alone(rows, bins, config, trees, threads=1):
    channel = Solo()
    return grow(channel, rows, begin(channel, rows, bins, config), config, trees, threads=threads)


def pooled(parts):
    columns = zip(*parts, strict=True)
    return Rows(*(None if each[0] is None else np.concatenate(each) for each in columns))


def deal(rows, participants, seed):
    """The rows among participants, query by query; the first one gets a single query or row."""
    r = np.random.default_rng(seed)
    sizes = np.ones(len(rows.labels), int) if rows.queries is None else rows.queries
    owner = np.maximum((r.random(len(sizes)) ** 2 * participants).astype(int), 1)
    owner[:participants] = np.arange(participants)
    holder = np.repeat(owner, sizes)
    return [
        Rows(
            np.ascontiguousarray(rows.features[holder == p]),
            rows.labels[holder == p],
            None if rows.queries is None else rows.queries[owner == p],
            None if rows.weights is None else rows.weights[holder == p],
        )
        for p in range(participants)
    ]


def world(seed):
    """Random rows, bins and settings."""
    r = np.random.default_rng(seed)
    rows, columns, objective = int(r.integers(200, 4000)), int(r.integers(3, 10)), str(r.choice(OBJECTIVES))
    features = r.normal(size=(rows, columns))
    if r.random() < 0.5:
        features[:, 1] = np.where(r.random(rows) < 0.7, 0, np.round(features[:, 1], 1))
    features[r.random(features.shape) < r.choice([0, 0.1, 0.4])] = np.nan
    if r.random() < 0.3:
        features[:, 2] = r.random(rows) < 0.3
    categories = {"f0": range(int(r.choice([3, 12, 14])))} if r.random() < 0.5 else {}
    if categories:
        features[:, 0] = r.integers(0, len(categories["f0"]), rows)
    config = BoostingConfig(
        objective=objective,
        num_leaves=int(r.integers(2, 40)),
        max_depth=int(r.choice([-1, 4])),
        min_data_in_leaf=int(r.choice([1, 5, 20, 100])),
        max_bin=int(r.choice([15, 63, 255])),
        feature_fraction=float(r.choice([1.0, 0.7])),
        learning_rate=float(r.choice([0.05, 0.3])),
        lambda_l2=float(r.choice([0.0, 1.0])),
        max_cat_to_onehot=int(r.choice([4, 64])),
        min_data_per_group=int(r.choice([5, 100])),
    )
    bins = agree(Solo(), features, [f"f{place}" for place in range(columns)], categories, config.max_bin)
    weights = 1.0 - r.random(rows) if objective != "lambdarank" and r.random() < 0.5 else None
    return Rows(features, *_labels(r, features, objective), weights), bins, config


def _labels(r, features, objective):
    known = np.nan_to_num(features)
    signal = known[:, 1] * known[:, 2] + known[:, 0] / 5 + r.normal(size=len(known)) / 2
    if objective != "lambdarank":
        count = r.poisson(np.exp(np.clip(signal, -3, 2)))
        labels = {"binary": signal > 0.3, "regression": signal * 1000 + 5, "poisson": count}[objective]
        return labels * 1.0, None
    sizes = r.integers(1, 30, len(known))
    sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), len(known)))]
    return np.clip(np.round(signal), 0, 4), np.append(sizes, len(known) - sizes.sum())


def prove_independence(seed, trees):
    """Other participants, other threads, stopped in between: the same text."""
    rows, bins, config = world(seed)
    r = np.random.default_rng(seed)
    parts = deal(rows, int(r.integers(2, 6)), seed)
    state = together(parts, bins, config, [trees], threads=1)
    again = together(deal(rows, int(r.integers(2, 6)), seed + 1), bins, config, [1, trees - 1], threads=2)
    assert state == again
    return pooled(parts), bins, config, state


def prove_equality(seed, trees):
    """The trees of the serial learner, or the one condition under which they may differ."""
    rows, bins, config, state = prove_independence(seed, trees)
    serial = alone(rows, bins, config, trees)
    if serial != state:
        same = [one == other for one, other in zip(serial.trees, state.trees, strict=True)]
        assert regained(rows, state, config, same.index(False))
    return serial == state


def regained(rows, state, config, number):
    """Whether a feature without a split of any gain in a node of a tree has one further down."""
    before = state.model_copy(update={"trees": state.trees[:number]})
    derive = derivatives(
        config.objective, rows.labels, rows.queries, state.scale, config.truncation, rows.weights
    )
    growth = rounded(config.objective, config.gradient_bits, *derive(before.scores(rows.features))).growth
    tree = read_tree(state.trees[number])
    leaf, every = walk(tree, rows.features), set(range(len(state.bins.columns)))

    def below(node):
        return [~node] if node < 0 else below(tree.left[node]) + below(tree.right[node])

    def visit(node, lost):
        held = np.isin(leaf, below(node))
        gains = {feature for feature in every if gains_from(rows, state.bins, config, growth, held, feature)}
        children = () if node < 0 else (tree.left[node], tree.right[node])
        return bool(lost & gains) or any(visit(child, lost | (every - gains)) for child in children)

    return visit(0, set())


def gains_from(rows, bins, config, growth, held, feature):
    """Whether LightGBM's serial learner can split the rows `held` by this feature."""
    names = ("min_data_in_leaf", "max_cat_to_onehot", "max_cat_threshold", "min_data_per_group", "cat_smooth")
    parameters = dict(objective="none", num_leaves=2, cat_l2=0.0, min_sum_hessian_in_leaf=0.0, num_threads=1)
    parameters |= {name: getattr(config, name) for name in names} | {"boost_from_average": False}
    one = Bins(columns=(bins.columns[feature],), max_bin=config.max_bin)
    data = one.dataset(np.ascontiguousarray(rows.features[held][:, [feature]]), parameters)
    booster = lightgbm.Booster(parameters | one.parameters, data)
    return not booster.update(fobj=lambda *_: (growth[held], np.full(held.sum(), 1024, np.float32)))


@settings(max_examples=6)
@given(st.integers(0, 2**32 - 1))
def test_trees_are_those_of_the_serial_learner_whoever_holds_the_rows(seed):
    prove_equality(seed, 4)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1))
def test_trees_are_those_of_the_serial_learner_many_times(seed):
    prove_equality(seed, 12)


def balanced_interaction():
    """At the root `a` gains exactly nothing; once `c` is known it does."""
    share = {(0, 0): 15, (1, 0): 5, (0, 1): 30, (1, 1): 40}
    cells = [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    features = np.repeat(np.array(cells, float), 50, axis=0)
    labels = np.concatenate([np.arange(50) < share[a, c] for a, _, c in cells]) * 1.0
    config = BoostingConfig(objective="binary", min_data_in_leaf=1, num_leaves=8)
    return Rows(features, labels), agree(Solo(), features, "abc"), config


def group_too_small():
    """At the root no group of `c` that may be split off has 100 rows; once `z` is known one has."""
    cell = np.repeat(range(6), [150, 150, 30, 30, 30, 30])
    features = np.stack([np.maximum(cell - 1, 0), cell == 1], axis=1) * 1.0
    labels = (np.arange(420) % 10 < np.array([0, 10, 1, 2, 8, 9])[cell]) * 1.0
    bins = agree(Solo(), features, "cz", {"c": range(5)})
    return Rows(features, labels), bins, BoostingConfig(objective="binary")


@pytest.mark.parametrize("difference", [balanced_interaction, group_too_small])
def test_the_one_difference_from_the_serial_learner_is_recognised(difference):
    rows, bins, config = difference()
    first, second = (together(deal(rows, 3, seed), bins, config, [1]) for seed in (1, 2))
    assert first == second
    assert alone(rows, bins, config, 1) != first
    assert regained(rows, first, config, 0)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_binary_features_differ_from_the_serial_learner_by_nothing_else(seed):
    r = np.random.default_rng(seed)
    features = (r.random((2000, 8)) < 0.5) * 1.0
    labels = (r.random(2000) < 0.2 + 0.6 * (features[:, 0] != features[:, 1])) * 1.0
    config = BoostingConfig(objective="binary", min_data_in_leaf=1)
    rows, bins = Rows(features, labels), agree(Solo(), features, "abcdefgh")
    state = together(deal(rows, 3, seed), bins, config, [5])
    assert state == together(deal(rows, 2, seed + 1), bins, config, [5])
    serial = alone(rows, bins, config, 5)
    same = [one == other for one, other in zip(serial.trees, state.trees, strict=True)]
    assert all(same) or regained(rows, state, config, same.index(False))


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_outputs_tell_the_leaves(seed):
    """Also where leaves have the same output or nearly, and where a row's output is none of theirs."""
    rows, bins, config = world(seed)
    block = alone(rows, bins, config.model_copy(update={"max_step": 0.5}), 1).trees[0]
    r, leaf = np.random.default_rng(seed), walk(read_tree(block), rows.features)
    values = read_leaves(block)
    values[r.random(len(values)) < 0.3] = values[0] + r.choice([0.0, 1e-12])
    before = r.normal(size=len(leaf)) * 1000
    after = before + np.where(r.random(len(leaf)) < 0.1, 77.0, values[leaf])
    found = find_leaves(set_leaves(block, values), before, after, rows.features)
    np.testing.assert_array_equal(found, leaf)


def test_large_scores_do_not_tell_the_leaves():
    """What is added to them is rounded, here to the output of the other leaf."""
    rows = Rows(np.arange(100.0).reshape(-1, 1), (np.arange(100) < 50) * 1.0)
    bins, config = agree(Solo(), rows.features, "x"), BoostingConfig(objective="binary", num_leaves=2)
    block = set_leaves(alone(rows, bins, config, 1).trees[0], np.array([1.0, 1.0 + 4e-9]))
    leaf, before = walk(read_tree(block), rows.features), np.full(100, 1e8)
    found = find_leaves(block, before, before + read_leaves(block)[leaf], rows.features)
    np.testing.assert_array_equal(found, leaf)


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_trees_are_those_of_lightgbms_own_update(fraction):
    """Also the features that a tree is drawn: else a model could not be had again from earlier versions."""
    r = np.random.default_rng(3)
    rows = Rows(r.normal(size=(400, 8)), (r.random(400) < 0.4) * 1.0)
    bins = agree(Solo(), rows.features, [f"f{place}" for place in range(8)])
    config = BoostingConfig(objective="binary", feature_fraction=fraction, num_leaves=7, min_data_in_leaf=5)
    state = alone(rows, bins, config, 3)
    derive = derivatives("binary", rows.labels, None, 1.0, config.truncation)
    data = binned(rows, bins, config).data
    for number, tree in enumerate(state.trees if fraction < 1.0 else state.trees[:1]):
        before = state.model_copy(update={"trees": state.trees[:number]}).scores(rows.features)
        growth = rounded("binary", config.gradient_bits, *derive(before)).growth
        seed = {"feature_fraction_seed": _seed(config.seed, number)}
        booster = lightgbm.Booster(lightgbm_parameters(config, bins, 1) | seed, data)
        booster.update(fobj=lambda *_, growth=growth: (growth, np.full(400, ROW, np.float32)))
        (expected,) = blocks(booster.model_to_string())
        np.testing.assert_array_equal(read_tree(tree).feature, read_tree(expected).feature)
        np.testing.assert_array_equal(read_tree(tree).threshold, read_tree(expected).threshold)


def test_rows_walk_as_lightgbm_predicts_them():
    """Also where a category is a fraction, outside the list, or none."""
    values = np.tile([0.0, 1.0, 2.0, 40.0, -0.5, 0.5, 2.5, -1.0, -1.5, 3.0, 1e10, np.nan], 30)
    rows = Rows(values[:, None], np.random.default_rng(1).normal(size=len(values)) + (values == 1))
    config = BoostingConfig(objective="regression", min_data_in_leaf=1, min_data_per_group=1)
    state = alone(rows, agree(Solo(), rows.features, "c", {"c": (0, 1, 2, 40)}), config, 3)
    leaf = lightgbm.Booster(model_str=state.text).predict(rows.features, pred_leaf=True)
    walked = [walk(read_tree(block), rows.features) for block in state.trees]
    np.testing.assert_array_equal(np.transpose(walked), leaf)


def test_a_split_cannot_have_more_categories_than_there_are_bins():
    """LightGBM told of 2^31 - 1 took the process with it: it reserves a place for each of them."""
    r = np.random.default_rng(0)
    category = r.integers(0, 20, 400)
    rows = Rows(np.stack([category, r.normal(size=400)], axis=1), category % 3 + r.normal(size=400))
    config = BoostingConfig(objective="regression", max_bin=63, min_data_per_group=1, cat_smooth=0.0)
    bins = agree(Solo(), rows.features, ["c", "x"], {"c": range(20)}, config.max_bin)
    known, *others = (
        together(deal(rows, 3, 0), bins, config.model_copy(update={"max_cat_threshold": most}), [2])
        for most in (63, 1000, (1 << 31) - 1)
    )
    assert all(other == known for other in others)
    assert (read_tree(known.trees[0]).decision & 1).any()


@pytest.mark.parametrize("floor", [7, 40])
def test_no_leaf_has_fewer_rows_than_the_floor(floor):
    rows, _, _ = world(5)
    bins = agree(Solo(), rows.features, [f"f{place}" for place in range(rows.features.shape[1])])
    config = BoostingConfig(objective="regression", min_data_in_leaf=floor, num_leaves=200)
    rows = rows._replace(queries=None)
    state = together(deal(rows, 4, 0), bins, config, [3])
    leaf = lightgbm.Booster(model_str=state.text).predict(rows.features, pred_leaf=True)
    for tree in leaf.T:
        counts = np.unique_counts(tree).counts
        assert len(counts) > 5
        assert counts.min() >= floor


def test_rows_that_nothing_can_split_give_one_leaf():
    rows = Rows(np.zeros((30, 2)), np.arange(30.0))
    bins, config = agree(Solo(), rows.features, "xy"), BoostingConfig(objective="regression")
    state = together(deal(rows, 3, 0), bins, config, [2, 1])
    assert state == alone(rows, bins, config, 3)
    np.testing.assert_allclose(state.scores(rows.features), 14.5)


@pytest.mark.slow
def test_the_documented_differences_are_lightgbms():
    """The reproductions of docs/lightgbm.md, over LightGBM's own sockets."""
    text = (Path(__file__).parents[1] / "docs" / "lightgbm.md").read_text()
    script = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True
    )
    said = dict(line.split(":", 1) for line in run.stdout.splitlines() if ":" in line)
    said = {name: " ".join(rest.split()) for name, rest in said.items()}
    assert (said["same splits"], said["same leaves"], said["integers"]) == ("True", "False", "True")
    assert said["rows of leaves, serial"] != said["rows of leaves, parallel"]
    assert (said["splits, serial"], said["splits, parallel"]) == ("1", "1 0 0")
    assert said["quantised gradients"] == "failed"
