"""What a grown model looks at: gains of its splits, and Shapley values as sums (Lundberg et al. 2020)."""

import lightgbm
import numpy as np

from recommenders.bins import Matrix
from recommenders.boosting import State
from recommenders.objectives import Floats


def gains(state: State) -> dict[str, float]:
    """The share of the gain of all splits that those on each feature have, by name, largest first."""
    booster = lightgbm.Booster(model_str=state.text)
    gained = booster.feature_importance("gain")
    found = dict(zip(booster.feature_name(), (gained / gained.sum()).tolist(), strict=True))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def contributions(state: State, features: Matrix) -> Floats:
    """Sums over the rows of |Shapley value| by feature, then the number of rows: (f + 1,), to be added."""
    if not len(features):
        return np.zeros(len(state.bins.columns) + 1)
    booster = lightgbm.Booster(model_str=state.text)
    values = np.asarray(booster.predict(features, pred_contrib=True, num_threads=1), np.float64)
    return np.append(np.abs(values[:, :-1]).sum(axis=0), float(len(features)))


def mean_contributions(state: State, sums: Floats) -> dict[str, float]:
    """The mean |Shapley value| of each feature from the sums, by name, largest first."""
    means = sums[:-1] / max(sums[-1], 1.0)
    found = {column.name: float(mean) for column, mean in zip(state.bins.columns, means, strict=True)}
    return dict(sorted(found.items(), key=lambda item: -item[1]))
