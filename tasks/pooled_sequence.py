"""The transformer of pooled rows: for comparison only.

It makes as many passes over everybody's histories as the federated rounds have made, and comes on top of each
organisation's own popularity, as there.
"""

import statistics
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from recommenders import sequence
from recommenders.attention import Network
from recommenders.choice import Choice, choose
from recommenders.interactions import Interactions
from recommenders.metrics import per_query
from tasks.model import ModelConfig
from tasks.pooled_ranker import Lists
from tasks.prepared import Prepared
from tasks.sequences import by
from tasks.terms import counts


def read_lists(everyone: Mapping[str, Prepared], model: ModelConfig, rounds: int, seed: int) -> Lists:
    """Everyone's lists for the test after `rounds`, popularity chosen on its validation part."""
    some = next(iter(everyone.values()))
    untrained = sequence.initial(some.data.item_count, model.sequence, seed)
    liked = [_chosen(each, model, untrained, some.scored_in(0)).strength for each in everyone.values()]
    days = model.windows[int(statistics.median_low(liked))]

    def trained(part: int) -> Network:
        data = _pooled([each.before(part) for each in everyone.values()])
        return _trained(untrained, model, data, days, rounds, np.random.default_rng([seed, part]))

    then, now = trained(some.scored_in(0)), trained(some.scored_in(1))
    chosen = {name: _chosen(each, model, then, some.scored_in(0)) for name, each in everyone.items()}
    return {
        name: _lists(each, model, now, some.scored_in(1), chosen[name]) for name, each in everyone.items()
    }


def _trained(
    network: Network,
    model: ModelConfig,
    data: Interactions,
    days: int,
    rounds: int,
    random: np.random.Generator,
) -> Network:
    from recommenders.transformer import train

    items = np.arange(data.item_count, dtype=np.int32)
    for _ in range(rounds):
        network = train(network, model.sequence, data, items, days, random)
    return network


def _pooled(parts: list[Interactions]) -> Interactions:
    """All events, each organisation's users by codes of their own; a user's stay in order."""
    starts = np.cumsum([0, *(each.user_count for each in parts)])
    users = [each.users + start for each, start in zip(parts, starts[:-1], strict=True)]
    items, times = (np.concatenate([getattr(each, name) for each in parts]) for name in ("items", "times"))
    codes = np.concatenate(users).astype(np.int32)
    return Interactions(codes, items, times, int(starts[-1]), parts[0].item_count)


def _chosen(each: Prepared, model: ModelConfig, network: Network, part: int) -> Choice:
    def quality(choice: Choice) -> NDArray[np.float64]:
        return per_query(_lists(each, model, network, part, choice), each.queries(part))[:, 0]

    return choose(quality, "popularity", (0.0,), range(len(model.windows)))


def _lists(
    each: Prepared, model: ModelConfig, network: Network, part: int, choice: Choice
) -> NDArray[np.int32]:
    data, items = each.before(part), each.sold(part)
    popularity = counts(data, each.begins(part), model)[int(choice.strength)][items]
    asked = data, items, popularity, each.queries(part), model.top
    return sequence.lists(by(network.of(items)), model.sequence, *asked)
