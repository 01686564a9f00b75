"""The consortium's trees with own ones beside: against LightGBM's predictions and a loop over the queries."""

import lightgbm
import numpy as np
import pytest

from federation.channel import Solo
from recommenders.bins import agree
from recommenders.boosting import BoostingConfig, Rows
from recommenders.growth import begin, grow
from recommenders.interpolation import Interpolated, choose_share

CONFIG = BoostingConfig(objective="binary", num_leaves=5, min_data_in_leaf=5)


@pytest.fixture(scope="module")
def grown():
    r = np.random.default_rng(3)
    features = r.normal(size=(400, 3))
    labels = (features[:, 0] + r.normal(size=400) > 0) * 1.0

    def model(rows):
        bins = agree(Solo(), rows.features, "xyz")
        return grow(Solo(), rows, begin(Solo(), rows, bins, CONFIG), CONFIG, 4)

    return features, model(Rows(features, labels)), model(Rows(features[:90], labels[:90]))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_scores_are_the_weighted_mean_of_two_models_of_lightgbm(grown, share):
    features, common, own = grown
    raw = [lightgbm.Booster(model_str=each.text).predict(features, raw_score=True) for each in (common, own)]
    ranker = Interpolated(common=common, own=own, share=share)
    np.testing.assert_allclose(ranker.scores(features), (1 - share) * raw[0] + share * raw[1], rtol=1e-12)
    assert Interpolated.model_validate_json(ranker.model_dump_json()) == ranker


def test_who_has_no_trees_of_its_own_uses_the_consortium_s(grown):
    features, common, _ = grown
    alone = Interpolated(common=common, own=None, share=0.25)
    assert np.array_equal(alone.scores(features), common.scores(features))


@pytest.mark.parametrize("seed", range(20))
def test_another_share_needs_more_than_two_standard_errors(seed):
    r = np.random.default_rng(seed)
    shares, quality = (0.25, 0.0, 1.0), r.random((3, 30)) + np.array([[0.0], [r.normal() / 9], [0.01]])
    means = [sum(row) / 30 for row in quality]
    best = means.index(max(means))
    gains = [one - other for one, other in zip(quality[best], quality[0], strict=True)]
    mean = sum(gains) / 30
    error = (sum((gain - mean) ** 2 for gain in gains) / 29 / 30) ** 0.5
    assert choose_share(quality, shares) == (shares[best] if mean > 2 * error else 0.25)


@pytest.mark.parametrize("queries", [0, 1])
def test_without_queries_to_choose_by_the_first_share_holds(queries):
    assert choose_share(np.ones((2, queries)), (0.5, 1.0)) == 0.5
