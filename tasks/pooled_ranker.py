"""The ranker of pooled rows, and the one that is bagged from trees grown apart: for comparison only.

The pooled one sees everybody's rows in one place, the organisation of each row still known: beside its trees
stand those of each organisation's own rows, as in the consortium, which grows the same trees without.
Bagging, as Flower does it, is not additive: each participant shows its trees.
"""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from federation.channel import Solo
from recommenders import two_stage
from recommenders.bagging import bagged
from recommenders.boosting import Rows
from recommenders.interpolation import Interpolated
from recommenders.item_to_item import own_gram
from recommenders.snapshot import Snapshot
from tasks.model import ModelConfig
from tasks.prepared import Prepared
from tasks.ranking import Grower, ranked, share_by, with_own
from tasks.tables import Table, table, teaching
from tasks.terms import counts

Lists = dict[str, NDArray[np.int32]]


def ranked_lists(everyone: Mapping[str, Prepared], model: ModelConfig, trees: int) -> dict[str, Lists]:
    """Everyone's lists for the test by a ranker of `trees` trees, or rounds: `pooled` and `bagged`."""
    test, tables = next(iter(everyone.values())).scored_in(1), []
    for part in range(1, test + 1):
        tables.append(pooled_tables(everyone, part, model))
        sys.stderr.write(f"pooled rows: candidates are found in {part} of {test} windows\n")
    apart = [rows for rows in _apart(tables[:-1], model).values() if len(rows.labels)]
    chosen = {
        name: share_by(ranker, tables[-2][name], model)
        for name, ranker in _rankers(tables[:-2], trees, model).items()
    }
    pooled = {
        name: ranker.model_copy(update={"share": chosen[name].share})
        for name, ranker in _rankers(tables[:-1], trees, model).items()
    }
    common = next(iter(pooled.values())).common
    sys.stderr.write(f"pooled rows: {trees} trees\n")
    bag = bagged(apart, common.bins, model.two_stage.boosting, trees)
    arms = {"pooled": pooled, "bagged": dict.fromkeys(everyone, bag)}
    return {
        arm: {name: ranked(tables[-1][name], rankers[name], model.top) for name in everyone}
        for arm, rankers in arms.items()
    }


def _rankers(
    tables: Sequence[Mapping[str, Table]], trees: int, model: ModelConfig
) -> dict[str, Interpolated]:
    """Everyone's ranker of `trees` trees of all rows of `tables`, with the own trees beside."""
    rows = teaching([each[name] for name in tables[0] for each in tables], model)
    common = Grower(rows, model).grow(Solo(), None, trees)
    return {name: with_own(common, own, model) for name, own in _apart(tables, model).items()}


def _apart(tables: Sequence[Mapping[str, Table]], model: ModelConfig) -> dict[str, Rows]:
    return {name: teaching([each[name] for each in tables], model) for name in tables[0]}


def pooled_tables(everyone: Mapping[str, Prepared], part: int, model: ModelConfig) -> dict[str, Table]:
    """Everyone's candidates for `part`, described with totals of the pooled events."""
    own = {name: counts(each.before(part), each.begins(part), model) for name, each in everyone.items()}
    total = np.sum([*own.values()], axis=0)
    gram = sum(each.before(part).matrix().T @ each.before(part).matrix() for each in everyone.values())
    found = {}
    for name, each in everyone.items():
        data, items = each.before(part), each.listable(part)
        of_all = np.asarray(gram[:, items][items].toarray(), np.float64)
        known = Snapshot(data, each.begins(part), items, own[name], total, own_gram(data, items), of_all)
        content = each.content.of(model.content)
        retriever = two_stage.retriever(known, model.two_stage, model.windows, content)
        found[name] = table(retriever, known, each, part, model)
    return found
