import os
from functools import partial
from pathlib import Path

import lightgbm
import numpy as np
import pytest
import quality
from parties import agreed
from pydantic import ValidationError

from federation.channel import Solo
from federation.errors import BadInput, Refused
from federation.plan import RoundPlan
from federation.simulate import simulate
from recommenders import boosting, growth
from recommenders.bins import agree
from recommenders.boosting import BoostingConfig, Rows, Scores
from recommenders.growth import begin, grow
from recommenders.trees import read_tree

OBJECTIVES = ("binary", "regression", "poisson", "lambdarank")


def names(columns):
    return [f"f{place}" for place in range(columns)]


def alone(rows, bins, config, trees):
    return grow(Solo(), rows, begin(Solo(), rows, bins, config), config, trees)


def together(parts, config, trees):
    """The consortium's model, from its bins to its last tree."""

    def work(rows, channel):
        bins = agree(channel, rows.features, names(rows.features.shape[1]), max_bin=config.max_bin)
        return grow(channel, rows, begin(channel, rows, bins, config), config, trees)

    return agreed(work, parts)


def world(objective):
    """Missing values, a category, and labels of the objective's kind."""
    r = np.random.default_rng(7)
    features = r.normal(size=(600, 4))
    features[r.random(features.shape) < 0.1] = np.nan
    features[:, 3] = r.integers(0, 6, 600)
    signal = np.nan_to_num(features[:, 0]) + (features[:, 3] > 3)
    labels = {"binary": signal > 0.5, "poisson": r.poisson(np.exp(signal)), "regression": signal}
    rows = Rows(features, labels.get(objective, np.clip(np.round(signal), 0, 3)) * 1.0, np.full(60, 10))
    config = BoostingConfig(objective=objective, num_leaves=8)
    return rows, agree(Solo(), features, names(4), {"f3": range(6)} if objective == "binary" else {}), config


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_lightgbm_predicts_the_same_outside(objective, tmp_path, monkeypatch):
    rows, bins, config = world(objective)
    state = alone(rows, bins, config, 5)
    (tmp_path / "model.txt").write_text(state.text)
    booster = lightgbm.Booster(model_file=str(tmp_path / "model.txt"))
    raw = booster.predict(rows.features, raw_score=True)
    np.testing.assert_array_equal(raw, state.scores(rows.features))
    link = {"binary": lambda s: 1 / (1 + np.exp(-s)), "poisson": np.exp}.get(objective, lambda s: s)
    np.testing.assert_allclose(booster.predict(rows.features), link(raw), rtol=1e-12)
    assert booster.feature_name() == [column.name for column in bins.columns]
    assert booster.num_trees() == 5
    asked, scores = [], Scores(rows.features)
    monkeypatch.setattr(boosting, "read_tree", lambda tree: asked.append(tree) or read_tree(tree))
    for trees in (2, 5, 3):  # what grew is asked for its new trees, what did not grow from it for all
        raw = booster.predict(rows.features, raw_score=True, num_iteration=trees)
        part = state.model_copy(update={"trees": state.trees[:trees]})
        np.testing.assert_array_equal(raw, scores.by(part))
    assert tuple(asked) == state.trees + state.trees[:3]
    if not bins.categorical:
        raw = booster.predict(rows.features, raw_score=True)
        contributions = booster.predict(rows.features[:20], pred_contrib=True)
        np.testing.assert_allclose(contributions.sum(axis=1), raw[:20])


def test_the_start_is_the_consortiums_mean():
    labels = np.array([0.0, 0.0, 0.0, 1.0])
    rows = Rows(np.arange(4.0).reshape(-1, 1), labels)
    bins = agree(Solo(), rows.features, "x")
    starts = {
        objective: begin(Solo(), rows, bins, BoostingConfig(objective=objective))
        for objective in OBJECTIVES[:3]
    }
    assert starts["binary"].start == pytest.approx(np.log(0.25 / 0.75))
    assert starts["regression"].start == 0.25
    assert starts["regression"].scale == pytest.approx(labels.std())
    assert starts["poisson"].start == pytest.approx(np.log(0.25))
    config = BoostingConfig(objective="regression")
    for weights in (None, np.array([0.25, 0.5, 0.5, 0.25])):
        far = rows._replace(labels=1e9 + np.array([-2.0, 2.0, -2.0, 2.0]), weights=weights)
        state = begin(Solo(), far, bins, config)
        assert (state.start, state.scale) == (1e9, 2.0)


def test_labels_of_0_and_1_are_not_squared():
    """What a mean tells anyway is not opened once more."""
    rows, opened = Rows(np.zeros((4, 1)), np.array([0.0, 1.0, 0.0, 1.0])), {}
    bins = agree(Solo(), rows.features, "x")
    for objective in ("binary", "regression"):
        part = partial(begin, rows=rows, bins=bins, config=BoostingConfig(objective=objective))
        opened[objective] = []
        plan = RoundPlan(run="r", number=0, cohort=("a", "b"))
        simulate(
            dict.fromkeys("ab", part), plan, on_opened=lambda name, *_, to=opened[objective]: to.append(name)
        )
    assert opened == {"binary": ["labels", "start"], "regression": ["labels", "squares", "start"]}


def test_a_row_of_half_the_weight_counts_half_in_start_and_leaves():
    r = np.random.default_rng(4)
    labels, side = (r.random(400) < 0.3) * 1.0, np.repeat([0.0, 1.0], 200)
    weights = np.where(r.random(400) < 0.5, 0.5, 1.0)
    rows = Rows(side.reshape(-1, 1), labels, None, weights)
    config = BoostingConfig(objective="binary", learning_rate=1.0)
    state = alone(rows, agree(Solo(), rows.features, "x"), config, 1)
    mean = np.average(labels, weights=weights)
    assert state.start == pytest.approx(np.log(mean / (1 - mean)))
    for half in (0.0, 1.0):
        mine = side == half
        step = (weights * (labels - mean))[mine].sum() / (weights[mine].sum() * mean * (1 - mean))
        assert state.scores(np.array([[half]]))[0] == pytest.approx(state.start + step, rel=1e-6)


@pytest.mark.parametrize("weight", [5e-324, 1e-3, 0.22, 0.4])
def test_a_single_light_row_has_a_start(weight):
    for labels in ([1.0], [0.0], [1.0, 0.0]):
        rows = Rows(
            np.arange(len(labels))[:, None] * 1.0, np.array(labels), None, np.full(len(labels), weight)
        )
        state = alone(rows, agree(Solo(), rows.features, "x"), BoostingConfig(objective="binary"), 2)
        assert np.isfinite(state.scores(rows.features)).all()
        assert state.start == pytest.approx(0.0)


def test_a_step_is_capped():
    rows = Rows(np.repeat([[0.0], [1.0]], 50, axis=0), np.repeat([0.0, 1.0], 50))
    config = BoostingConfig(objective="binary", learning_rate=1.0, max_step=0.5)
    state = alone(rows, agree(Solo(), rows.features, "x"), config, 1)
    np.testing.assert_array_equal(np.unique(state.scores(rows.features)), [-0.5, 0.5])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("bagging_fraction", 0.5, "samples rows by their local index"),
        ("bagging_freq", 1, "samples rows by their local index"),
        ("data_sample_strategy", "goss", "samples rows by their local index"),
        ("feature_fraction_bynode", 0.5, "layout within a tree"),
        ("objective", "rank_xendcg", "local index of a query"),
        ("objective", "xendcg", "local index of a query"),
        ("cat_l2", 10.0, "prune"),
        ("lambda_l1", 1.0, "prune"),
        ("early_stopping_round", 5, "stop on the consortium's metric"),
        ("use_quantized_grad", True, "fails in LightGBM's data-parallel training"),
        ("extra_trees", True, "local state of a generator"),
        ("min_data_in_leaf", (1 << 32) + 1, "less than 2147483648"),
        ("max_depth", 1 << 31, "less than 2147483648"),
        ("nonsense", 1, "Extra inputs"),
    ],
)
def test_settings_that_break_exactness_are_refused_with_the_reason(name, value, reason):
    with pytest.raises(ValidationError, match=reason):
        BoostingConfig(**{name: value})


def test_the_first_of_the_cohort_computes_the_start_for_all(monkeypatch):
    """Whose processor rounds a logarithm otherwise hears the same start."""
    starts = iter([0.1, 0.2, 0.3])
    monkeypatch.setattr(growth, "_start", lambda *_: (next(starts), 1.0))
    rows, _, config = world("binary")
    parts = [Rows(rows.features[k::3].copy(), rows.labels[k::3]) for k in range(3)]
    assert together(parts, config, 1).start == 0.1


def test_what_is_clipped_is_counted_over_the_consortium():
    r = np.random.default_rng(0)
    features, labels = r.normal(size=(3000, 2)), r.normal(size=3000)
    labels[[5, 100, 101]] = 1e6
    parts = [Rows(features[k::3].copy(), labels[k::3]) for k in range(3)]
    state = together(parts, BoostingConfig(objective="regression"), 2)
    assert state.scale == pytest.approx(labels.std())
    assert state.clipped == 2 * 3
    assert together(parts, BoostingConfig(objective="regression"), 0).clipped == 0


def test_no_value_of_anyones_is_in_bins_or_model():
    rows, _, config = world("binary")
    rows = rows._replace(features=np.random.default_rng(1).lognormal(size=(600, 4)))
    parts = [Rows(rows.features[k::3].copy(), rows.labels[k::3]) for k in range(3)]
    state = together(parts, config, 20)
    known = {value for column in state.bins.columns for value in column.values}
    for block in state.trees:
        known |= set(read_tree(block).threshold.tolist())
    assert len(known) > 500
    assert not known & set(rows.features.ravel().tolist())


def test_strange_rows_and_states_are_refused():
    rows, bins, config = world("binary")
    state = begin(Solo(), rows, bins, config)
    for broken in (
        rows._replace(features=rows.features[:, :2]),
        rows._replace(features=np.where(rows.features > 0, np.inf, 0.0)),
        rows._replace(labels=rows.labels[1:]),
        rows._replace(weights=np.ones(3)),
        rows._replace(weights=np.zeros(600)),
        rows._replace(weights=np.full(600, 1.5)),
        Rows(np.empty((0, 3)), np.empty(0)),
    ):
        with pytest.raises(BadInput):
            grow(Solo(), broken, state, config, 1)
    rank, _, ranking = world("lambdarank")
    with pytest.raises(BadInput, match="weights"):
        begin(Solo(), rank._replace(weights=np.ones(600)), bins, ranking)
    with pytest.raises(BadInput, match="cannot go on"):
        grow(Solo(), rows, state, config.model_copy(update={"objective": "poisson"}), 1)
    with pytest.raises(BadInput, match="max_bin"):
        begin(Solo(), rows, bins, config.model_copy(update={"max_bin": 63}))
    with pytest.raises(BadInput, match="infinite"):
        agree(Solo(), np.full((3, 1), np.inf), "x")
    with pytest.raises(Refused, match=r"^column 'y': the value in row 1 is beyond"):
        agree(Solo(), np.array([[0.0, 1.0], [1.0, 1e200]]), "xy", {"x": (0, 1)})
    with pytest.raises(BadInput, match=r"^y: found 15 categories, expected 14 or fewer with max_bin 15$"):
        agree(Solo(), np.ones((3, 2)), "xy", {"y": range(15)}, max_bin=15)


def real(name):
    """The path of a real data set."""
    if "CHORUS_DATA" not in os.environ:
        pytest.skip("real data: set CHORUS_DATA to the folder that holds it")
    path = Path(os.environ["CHORUS_DATA"]) / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def test_a9a_is_as_good_as_with_second_order_splits():
    parts = [quality.svm(real("a9a") / f"a9a_horizontal_p{p}", 124) for p in (0, 1)]
    test = quality.svm(real("a9a") / "a9a_horizontal_test", 124)
    state = together(parts, BoostingConfig(objective="binary", max_bin=15), 100)
    assert quality.auc(test, state.scores(test.features)) > 0.9025


def test_the_ranking_example_is_as_good_as_with_second_order_splits():
    train, test = (quality.svm(real("lightgbm-rank") / f"rank.{kind}", 301) for kind in ("train", "test"))
    config = BoostingConfig(min_data_in_leaf=50, trees=50)
    bins = agree(Solo(), train.features, names(301), max_bin=config.max_bin)
    found = quality.ndcg(test, together(quality.halves(train), config, 50).scores(test.features))
    own = []
    for seed in range(3):
        drawn = config.model_copy(update={"feature_fraction": 0.9, "seed": seed})
        own.append(quality.ndcg(test, quality.own(train, bins, drawn).predict(test.features)))
    assert found > min(own) - 0.02, (found, own)
