"""What each participant of a replay chooses for its models: once, and the pipeline at every training.

All policies have what was chosen, so that cadences are compared, not models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from federation.plan import RoundPlan
from recommenders import item_to_item
from recommenders.choice import Choice, Kind, choose
from recommenders.metrics import Queries, per_query
from recommenders.snapshot import Snapshot
from tasks.model import ModelConfig
from tasks.rehearsal import Rehearsal, Window
from tasks.replay import count
from tasks.terms import own_snapshot

PARTS = 2  # what has to be solved is tried in so many parts of the time, popularity in each window

Part = tuple[Snapshot, Queries]


def chosen(
    everyone: Mapping[str, Rehearsal], model: ModelConfig, moments: Sequence[int], seed: int
) -> dict[str, Rehearsal]:
    """`everyone`, each with the choice for each arm that did best for it in the time of `moments`.

    Who has no queries in that time keeps its settings.
    """
    plan = RoundPlan(run="replay", number=0, cohort=tuple(everyone), seed=seed)
    totals = {begin: count(everyone, begin, plan)[0] for begin in moments[:-1]}
    found = {}
    for name, each in everyone.items():
        choices = dict(each.settings.choices)
        for kind in choices:
            tried = model.model_copy(update={"kind": kind})
            if known := _parts(each, [*everyone.values()], totals, tried, moments):
                choices[kind] = _best(known, kind, model)
        found[name] = Rehearsal(each.data, replace(each.settings, choices=choices), each.features)
    return found


def _parts(
    mine: Rehearsal,
    everyone: Sequence[Rehearsal],
    totals: Mapping[int, NDArray[np.int64]],
    model: ModelConfig,
    moments: Sequence[int],
) -> list[Part]:
    """What a training at the beginning of each part tells the participant, and its queries in the part."""
    spans = [*pairwise(moments)] if model.kind == "popularity" else _spans(moments)
    asked = ((span, mine.queries(span)) for span in spans)
    return [
        (_known(mine, span[0], everyone, totals[span[0]], model), queries)
        for span, queries in asked
        if len(queries)
    ]


def _best(known: Sequence[Part], kind: Kind, model: ModelConfig) -> Choice:
    """The choice with the greatest mean over all queries."""

    @cache
    def quality(choice: Choice) -> NDArray[np.float64]:
        lists = ((each.lists(choice, queries, model.top), queries) for each, queries in known)
        return np.concatenate([per_query(*asked)[:, 0] for asked in lists])

    strengths = range(len(model.windows)) if kind == "popularity" else model.regularisations
    return choose(quality, kind, model.shares, strengths)


def _known(
    mine: Rehearsal, at: int, everyone: Sequence[Rehearsal], total: NDArray[np.int64], model: ModelConfig
) -> Snapshot:
    """What a training at the moment `at` tells the participant, which here reads the others' events."""
    data = mine.between(0, at)
    own = own_snapshot(data, at, data.own_items(), model)
    if model.kind == "popularity":
        return replace(own, total_counts=total)
    grams = (item_to_item.own_gram(each.between(0, at), own.own_items) for each in everyone)
    return replace(own, total_counts=total, total_gram=sum(grams, np.zeros_like(own.own_gram)))


def _spans(moments: Sequence[int]) -> list[Window]:
    """The time of `moments` in `PARTS` parts of about as many windows, or in one."""
    last = len(moments) - 1
    places = sorted({round(part * last / PARTS) for part in range(PARTS + 1)})
    return [*pairwise(moments[place] for place in places)]
