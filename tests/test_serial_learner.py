"""The trees of a cohort beside those of LightGBM's serial learner on pooled rows."""

import re
import subprocess
import sys
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from grown import alone, deal, pooled, together, world
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.channel import Solo
from recommenders.bins import Bins, agree
from recommenders.boosting import BoostingConfig, Rows
from recommenders.gradients import derivatives, rounded
from recommenders.trees import read_tree, walk


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
