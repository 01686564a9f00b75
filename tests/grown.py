"""Random rows, bins and settings, and the models that a cohort and one participant alone grow from them."""

import numpy as np
from parties import agreed

from federation.channel import Solo
from recommenders.bins import agree
from recommenders.boosting import BoostingConfig, Rows, State
from recommenders.growth import begin, grow

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
