import lightgbm
import numpy as np
import pytest

from federation.channel import Solo
from recommenders.bagging import bagged
from recommenders.bins import agree
from recommenders.boosting import BoostingConfig, Rows
from recommenders.growth import begin, grow

OBJECTIVES = ("binary", "regression", "poisson", "lambdarank")


def world(objective, participants=3):
    r = np.random.default_rng(11)
    features = r.normal(size=(600, 3))
    features[r.random(features.shape) < 0.1] = np.nan
    signal = np.nan_to_num(features[:, 0]) + r.normal(size=600) / 4
    labels = {"binary": signal > 0.3, "poisson": r.poisson(np.exp(signal)), "regression": 9 * signal}
    labels = labels.get(objective, np.clip(np.round(signal), 0, 3)) * 1.0
    bins = agree(Solo(), features, "xyz")
    size = 600 // participants
    parts = [
        Rows(features[start : start + size], labels[start : start + size], np.full(size // 10, 10))
        for start in range(0, 600, size)
    ]
    return parts, bins, BoostingConfig(objective=objective, num_leaves=5)


def slow(parts, bins, config, rounds):
    """Raw scores of all rows: the mean of trees that know nothing of each other, round by round."""
    pooled = Rows(*(np.concatenate([part[i] for part in parts]) for i in range(3)))
    state, scores = begin(Solo(), pooled, bins, config), 0.0
    for _ in range(rounds):
        steps = []
        for rows in parts:
            block = grow(Solo(), rows, state, config, 1).trees[-1]
            alone = lightgbm.Booster(model_str=state.model_copy(update={"trees": (block,)}).text)
            steps.append((block, alone.predict(pooled.features, raw_score=True)))
        scores = scores + np.mean([step for _, step in steps], axis=0)
        state = state.model_copy(
            update={"trees": state.trees + tuple(share(block, parts) for block, _ in steps)}
        )
    return scores


def share(block, parts):
    lines = [
        "leaf_value=" + " ".join(repr(float(v) / len(parts)) for v in line.split("=")[1].split())
        if line.startswith("leaf_value=")
        else line
        for line in block.splitlines()
    ]
    return "\n".join(lines)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_bagging_is_the_mean_of_trees_grown_apart(objective):
    parts, bins, config = world(objective)
    state = bagged(parts, bins, config, 4)
    features = np.concatenate([part.features for part in parts])
    np.testing.assert_allclose(state.scores(features), slow(parts, bins, config, 4), rtol=1e-12, atol=1e-12)
    assert len(state.trees) == 12


def test_bagging_of_one_is_boosting():
    parts, bins, config = world("binary", participants=1)
    boosted = grow(Solo(), parts[0], begin(Solo(), parts[0], bins, config), config, 5)
    assert bagged(parts, bins, config, 5) == boosted
