"""Trees of counts and gradients, leaves of Newton steps, against LightGBM's own second-order objectives.

    CHORUS_DATA=... .venv/bin/python benchmarks/quality.py [--seeds 3]

On a9a (AUC) and LightGBM's ranking example (NDCG@10), 100 trees, of a consortium of two, with the same rows,
bins and settings.  Both differ from seed to seed by the sampling of nine features in ten.
"""

import argparse
import os
from pathlib import Path

import lightgbm
import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel, Solo
from federation.plan import RoundPlan
from federation.simulate import simulate
from recommenders.bins import Bins, agree
from recommenders.boosting import BoostingConfig, Rows, State
from recommenders.growth import begin, grow

Floats = NDArray[np.float64]


def svm(path: Path, columns: int) -> Rows:
    """Rows of a file in SVMlight's format, and of the file of its queries where there is one."""
    lines = [line.split() for line in path.read_text().splitlines()]
    features = np.zeros((len(lines), columns))
    for row, (_, *pairs) in enumerate(lines):
        for place, value in (pair.split(":") for pair in pairs):
            features[row, int(place)] = float(value)
    queries = path.with_name(path.name + ".query")
    sizes = np.loadtxt(queries, int) if queries.exists() else None
    return Rows(features, np.array([float(line[0]) for line in lines]), sizes)


def halves(rows: Rows) -> list[Rows]:
    """Two participants' rows; a query belongs to one."""
    cut = len(rows.labels) // 2 if rows.queries is None else int(rows.queries[: len(rows.queries) // 2].sum())
    queries = (None, None) if rows.queries is None else np.split(rows.queries, [len(rows.queries) // 2])
    pieces = (slice(None, cut), slice(cut, None))
    return [Rows(rows.features[p], rows.labels[p], q) for p, q in zip(pieces, queries, strict=True)]


def chorus(rows: Rows, bins: Bins, config: BoostingConfig) -> State:
    """The consortium's model."""
    parts = dict(zip("ab", halves(rows), strict=True))

    def work(channel: Channel) -> State:
        mine = parts[channel.name]
        return grow(channel, mine, begin(channel, mine, bins, config), config, config.trees)

    cohort = RoundPlan(run="quality", number=0, cohort=tuple(parts))
    return simulate(dict.fromkeys(parts, work), cohort)["a"]


def own(rows: Rows, bins: Bins, config: BoostingConfig) -> lightgbm.Booster:
    """LightGBM's own objective on the pooled rows."""
    names = ("objective", "learning_rate", "num_leaves", "min_data_in_leaf", "feature_fraction")
    parameters = {name: getattr(config, name) for name in names}
    parameters |= {"feature_fraction_seed": config.seed, "num_threads": 1, "verbosity": -1}
    data = bins.dataset(rows.features, parameters)
    data.set_label(rows.labels)
    if rows.queries is not None:
        data.set_group(rows.queries)
    booster = lightgbm.Booster(parameters | bins.parameters, data)
    for _ in range(config.trees):
        booster.update()
    return booster


def auc(rows: Rows, scores: Floats) -> float:
    """Area under the receiver's curve; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = rows.labels > 0
    return float((ranks[positive].mean() - (positive.sum() + 1) / 2) / (~positive).sum())


def ndcg(rows: Rows, scores: Floats, places: int = 10) -> float:
    """NDCG@10 over the queries with something relevant."""
    assert rows.queries is not None
    found = []
    for mine in np.split(np.arange(len(scores)), np.cumsum(rows.queries)[:-1]):
        gain = 2.0 ** rows.labels[mine] - 1
        discount = (np.arange(len(mine)) < places) / np.log2(np.arange(len(mine)) + 2)
        if ideal := np.sort(gain)[::-1] @ discount:
            found.append(gain[np.argsort(-scores[mine], kind="stable")] @ discount / ideal)
    return float(np.mean(found))


def compare(name: str, train: Rows, test: Rows, config: BoostingConfig, seeds: int) -> None:
    """A line for each contender: the metric for every seed."""
    names = [f"f{place}" for place in range(train.features.shape[1])]
    bins = agree(Solo(), train.features, names, max_bin=config.max_bin)
    metric = ndcg if config.objective == "lambdarank" else auc
    configs = [config.model_copy(update={"seed": seed}) for seed in range(1, seeds + 1)]
    for contender in ("Chorus", "LightGBM"):
        figures = []
        for each in configs:
            if contender == "Chorus":
                scores = chorus(train, bins, each).scores(test.features)
            else:
                scores = np.asarray(own(train, bins, each).predict(test.features))
            figures.append(metric(test, scores))
        told = " ".join(f"{figure:.4f}" for figure in figures)
        print(f"{name:16} {contender:9} {told}   mean {np.mean(figures):.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds, data = parser.parse_args().seeds, Path(os.environ["CHORUS_DATA"])
    one, two = (svm(data / "a9a" / f"a9a_horizontal_p{p}", 124) for p in (0, 1))
    adults = Rows(np.concatenate([one.features, two.features]), np.concatenate([one.labels, two.labels]))
    config = BoostingConfig(objective="binary", trees=100, max_bin=15, feature_fraction=0.9)
    compare("a9a, AUC", adults, svm(data / "a9a" / "a9a_horizontal_test", 124), config, seeds)
    train, test = (svm(data / "lightgbm-rank" / f"rank.{kind}", 301) for kind in ("train", "test"))
    config = BoostingConfig(trees=100, min_data_in_leaf=50, feature_fraction=0.9)
    compare("ranking, NDCG@10", train, test, config, seeds)


if __name__ == "__main__":
    main()
