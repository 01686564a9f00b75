import lightgbm
import numpy as np
import pytest
from grown import alone, deal, together, world
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.channel import Solo
from recommenders.bins import agree
from recommenders.boosting import BoostingConfig, Rows, State
from recommenders.gradients import derivatives, rounded
from recommenders.growth import binned
from recommenders.histograms import ROW
from recommenders.learner import _seed, _text, lightgbm_parameters
from recommenders.trees import blocks, find_leaves, read_leaves, read_tree, set_leaves, walk


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


@pytest.mark.parametrize("size", [1, 1000, 1 << 15])
def test_a_trees_text_is_whole_however_long_it_is(size):
    rows = Rows(np.arange(400.0)[:, None], np.random.default_rng(1).normal(size=400))
    config = BoostingConfig(objective="regression", num_leaves=31, min_data_in_leaf=1)
    bins = agree(Solo(), rows.features, "x")
    booster = lightgbm.Booster(lightgbm_parameters(config, bins, 1), binned(rows, bins, config).data)
    for _ in range(2):
        booster.update(fobj=lambda *_: (rows.labels.astype(np.float32), np.full(400, ROW, np.float32)))
    assert blocks(_text(booster, 1, size)) == blocks(booster.model_to_string())[1:]


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


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("left_child", "0 0"),
        ("left_child", "-9 -1"),
        ("right_child", "7 -2"),
        ("right_child", "1"),
        ("split_feature", "0 1"),
        ("split_feature", "0 -1"),
        ("threshold", "9 9"),
        ("cat_boundaries", "0 900"),
        ("cat_boundaries", "0 -1"),
        ("leaf_value", "1 2"),
    ],
)
def test_a_told_tree_that_leads_nowhere_is_refused(line, wrong):
    """Else a coordinator could let a participant's process run for ever, or read beyond its memory."""
    sound = {"split_feature": "0 0", "threshold": "0 0", "decision_type": "1 2", "left_child": "1 -1"}
    sound |= {"right_child": "-2 -3", "leaf_value": "1 2 3", "cat_boundaries": "0 1", "cat_threshold": "3"}
    rows = np.array([[0.0], [1.0], [2.0]])
    bins = agree(Solo(), rows, "c", {"c": (0, 1, 2)})

    def state(told):
        trees = ("\n".join(f"{key}={value}" for key, value in told.items()),)
        return State(objective="binary", bins=bins, start=0.0, scale=1.0, trees=trees)

    assert state(sound).scores(rows).tolist() == [1.0, 3.0, 2.0]
    with pytest.raises(ValueError, match="found a tree that cannot be walked"):
        state(sound | {line: wrong}).scores(rows)
