"""The transformer of pooled rows: for comparison only.

It makes as many passes over everybody's histories as the federated rounds have made, on top of pooled
popularity; lists are made on top of each organisation's own.
"""

import statistics
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from recommenders import exchange, sequence
from recommenders.attention import Network
from recommenders.choice import Choice, choose
from recommenders.interactions import Interactions
from recommenders.metrics import per_query
from recommenders.topk import top_popular
from tasks.model import ModelConfig
from tasks.pooled_ranker import Lists
from tasks.prepared import Prepared
from tasks.sequences import by
from tasks.terms import counts


def read_lists(everyone: Mapping[str, Prepared], model: ModelConfig, rounds: int, seed: int) -> Lists:
    """Everyone's lists for the test after `rounds`; popularity and trust are chosen on validation."""
    some = next(iter(everyone.values()))
    content = some.embeddings(model.content)
    untrained = sequence.initial(sum(content.shape), model.sequence, seed)
    chosen = {name: _chosen(each, model, some.scored_in(0)) for name, each in everyone.items()}
    days = model.windows[statistics.median_low(int(each.strength) for each in chosen.values())]

    def trained(part: int) -> Network:
        data = _pooled([each.before(part) for each in everyone.values()])
        random = np.random.default_rng([seed, part])
        return sequence.blended(_trained(untrained, model, data, content, days, rounds, random), content)

    def lists(network: Network, part: int) -> Lists:
        return {name: _lists(each, model, network, part, chosen[name]) for name, each in everyone.items()}

    then, validation = trained(some.scored_in(0)), some.scored_in(0)

    def quality(trust: float) -> float:
        found = lists(then.trusted(trust), validation)
        each = [per_query(found[name], everyone[name].queries(validation))[:, 0] for name in found]
        return float(np.concatenate(each).sum())

    trust = max(model.sequence.trusts, key=quality)
    return lists(trained(some.scored_in(1)).trusted(trust), some.scored_in(1))


def _trained(
    network: Network,
    model: ModelConfig,
    data: Interactions,
    content: NDArray[np.float32],
    days: int,
    rounds: int,
    random: np.random.Generator,
) -> Network:
    from recommenders.transformer import train

    count, events = len(network.table), np.bincount(data.items, minlength=data.item_count)
    weights = exchange.weights(events, "rows", 1.0)
    items = exchange.learned(weights, model.sequence.exchange.keep, data.item_count)
    rows = sequence.rows(items, content)
    network = network.of(rows)
    for _ in range(rounds):
        network = network.plus(train(network, model.sequence, data, items, days, random, content[items]))
    return network.among(rows, count)


def _pooled(parts: list[Interactions]) -> Interactions:
    """All events, each organisation's users by codes of their own; a user's stay in order."""
    starts = np.cumsum([0, *(each.user_count for each in parts)])
    users = [each.users + start for each, start in zip(parts, starts[:-1], strict=True)]
    items, times = (np.concatenate([getattr(each, name) for each in parts]) for name in ("items", "times"))
    codes = np.concatenate(users).astype(np.int32)
    return Interactions(codes, items, times, int(starts[-1]), parts[0].item_count)


def _chosen(each: Prepared, model: ModelConfig, part: int) -> Choice:
    """The window of own popularity that does best by itself."""
    queries, items = each.queries(part), each.listable(part)
    counted = counts(each.before(part), each.begins(part), model)[:, items].astype(np.float32)

    def quality(choice: Choice) -> NDArray[np.float64]:
        popular = counted[int(choice.strength)]
        return per_query(top_popular(popular, queries, items, each.data.item_count, model.top), queries)[:, 0]

    return choose(quality, "popularity", (0.0,), range(len(model.windows)))


def _lists(
    each: Prepared, model: ModelConfig, network: Network, part: int, choice: Choice
) -> NDArray[np.int32]:
    data, items = each.before(part), each.listable(part)
    popularity = counts(data, each.begins(part), model)[int(choice.strength)][items]
    asked = data, items, popularity, each.queries(part), model.top
    return sequence.lists(by(network.of(items)), model.sequence, *asked)
