"""Training of the transformer, and its federated rounds, which are sums."""

import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from histories import happened
from hypothesis import given
from hypothesis import strategies as st

from federation.plan import RoundPlan
from federation.simulate import simulate
from recommenders import exchange, sequence
from recommenders.attention import scores
from recommenders.metrics import COUNTS, Queries, per_query
from recommenders.popularity import DAY
from recommenders.sequence import Histories, SequenceConfig
from recommenders.versions import Common, step
from tasks.sequences import by

pytest.importorskip("torch")

from recommenders.transformer import Lessons, Transformer, _scored, train

SMALL = SequenceConfig(width=8, length=5, blocks=2, heads=2, dropout=0.1, batch=16, learning_rate=0.01)
ABLE = SequenceConfig(width=16, length=5, blocks=1, dropout=0.0, batch=60, learning_rate=0.01, epochs=5)
NO_ADAM = np.zeros(0, np.float32), np.zeros(0, np.float32)


def walks(seed, first=0, starts=12, steps=4):
    """Events of 60 users who take one of 12 items in a circle, from an arc of it, and then the next."""
    begun = first + np.random.default_rng(seed).integers(starts, size=60)
    each = (begun[:, None] + np.arange(steps)) % 12
    return happened(np.repeat(np.arange(60), steps), each.ravel(), 12)


def federated(parts, rounds, masks=True):
    items, network = parts[0].item_count, sequence.initial(parts[0].item_count, ABLE, 0)
    names = [f"shop{place}" for place in range(len(parts))]

    def work(name, data, before, number, channel):
        own = data.own_items()
        random = np.random.default_rng([number, names.index(name)])
        change = train(before.of(own), ABLE, data, own, 30, random)
        counts = exchange.weights(np.bincount(data.items, minlength=items), "rows", 1.0)
        share = exchange.shares(counts, channel.sum("weights", counts, COUNTS))
        part = np.append(share[own], share[-1])
        term = exchange.term(change, part, own, items, ABLE.exchange, random)
        total = channel.sum("update", term, ABLE.exchange.form)
        everything = np.arange(items, dtype=np.int32)
        return step(Common(before, *NO_ADAM), total, everything, None, ABLE.exchange).network

    for number in range(rounds):
        plan = RoundPlan(run="read", number=number, cohort=tuple(names))
        jobs = {
            name: partial(work, name, data, network, number) for name, data in zip(names, parts, strict=True)
        }
        networks = list(simulate(jobs, plan, masks).values())
        assert all(np.array_equal(*each) for one in networks for each in zip(one, networks[0], strict=True))
        network = networks[0]
    return network


def follows(network, data):
    """The share of users of whom the item that follows is listed first; all items are equally popular."""
    users = np.arange(data.user_count, dtype=np.int32)
    last = Histories(data, np.arange(data.item_count, dtype=np.int32)).newest(users, 1)[:, 0]
    starts = np.arange(len(users) + 1)
    nothing = np.zeros(0, np.int32)
    queries = Queries(
        users, np.zeros_like(starts), nothing, starts, ((last + 1) % data.item_count).astype(np.int32)
    )
    items = np.arange(data.item_count, dtype=np.int32)
    lists = sequence.lists(by(network), ABLE, data, items, np.ones(len(items)), queries, 1)
    return per_query(lists, queries)[:, 0].mean()


def test_participants_learn_together_what_none_of_them_could_know():
    """Each sees a part of a circle of items only; masks on or off, all hold the same bits."""
    everywhere = walks(9)
    parts = [walks(place, 4 * place, 4) for place in range(3)]
    network = federated(parts, 10)
    assert follows(sequence.initial(12, ABLE, 0), everywhere) < 0.3
    assert follows(federated(parts[:1], 10, masks=False), everywhere) < 0.7
    assert follows(network, everywhere) > 0.95
    again = federated(parts, 2, masks=False)
    assert all(np.array_equal(*each) for each in zip(again, federated(parts, 2), strict=True))


def test_content_tells_of_items_that_nobody_had():
    """Items are of three kinds, and a user likes one; of each kind there is one that nobody had, 12 to 14."""
    content, random = np.eye(3, dtype=np.float32)[np.arange(15) % 3], np.random.default_rng(0)
    liked = np.array([random.choice(np.arange(user % 3, 12, 3), 4, replace=False) for user in range(60)])
    data, items = happened(np.repeat(np.arange(60), 4), liked.ravel(), 15), np.arange(15, dtype=np.int32)
    network = sequence.initial(18, ABLE, 0)
    for number in range(4):
        known = data, items, 30, np.random.default_rng(number)
        network = network.plus(train(network, ABLE, *known, content))
    network = sequence.blended(network, content)
    assert network.table.shape == (15, ABLE.width)
    for kind in range(3):
        (found,) = scores(network, ABLE.size, np.array([[kind, kind + 3, kind + 6]]))
        assert found[12:].argmax() == kind


def test_a_strong_pull_holds_the_network_where_it_was():
    data = walks(0)
    before, items = sequence.initial(12, SMALL, 0), data.own_items()

    def moved(strength):
        config = SMALL.model_copy(update={"proximal": strength, "dropout": 0.0})
        change = train(before, config, data, items, 30, np.random.default_rng(0))
        return float(np.square(change.dense).sum())

    assert moved(100.0) < moved(1.0) < moved(0.0)


def test_without_events_nothing_is_learned():
    nobody, before = happened([0], [3], 12), sequence.initial(12, SMALL, 0)
    change = train(before, SMALL, nobody, np.arange(12, dtype=np.int32), 30, np.random.default_rng(0))
    assert not any(each.any() for each in change)


def test_a_step_scores_what_follows_and_a_sample_that_stands_for_the_rest():
    """Over many draws the sampled partition function is near that over all items."""
    follows, random = np.array([2, 7, 9, 2]), np.random.default_rng(0)
    weights, found = np.exp(np.random.default_rng(1).normal(size=40)), []
    for _ in range(3000):
        scored, excess = _scored(follows, np.arange(40), 10, random)
        assert len(scored) == len(set(scored.tolist())) == 13
        assert (np.diff(scored) > 0).all()
        assert {2, 7, 9} <= set(scored.tolist())
        assert not excess[np.isin(scored, [2, 7, 9])].any()
        found.append((weights[scored] * np.exp(excess)).sum())
    assert np.mean(found) == pytest.approx(weights.sum(), rel=0.01)
    scored, excess = _scored(follows, np.arange(40), 100, random)
    assert np.array_equal(scored, np.arange(40))
    assert not excess.any()


def test_what_a_step_takes_does_not_grow_with_the_catalogue():
    """Of each event that follows popularity is looked up of the items that are scored, not of all."""
    many, random = 20_000, np.random.default_rng(0)
    data = happened(np.repeat(np.arange(60), 6), random.integers(many, size=360), many)
    lessons = Lessons(data, np.arange(many, dtype=np.int32), 30)
    model = Transformer(sequence.initial(many, SMALL, 0), SMALL.size, 0.0)
    config = SMALL.model_copy(update={"negatives": 100})
    tracemalloc.start()
    lessons.loss(model, np.arange(60, dtype=np.int32), config, random)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * many * 60  # a row of all items for each user is more


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=60), st.integers(1, 4))
def test_an_event_comes_on_top_of_the_popularity_of_its_time(events, days):
    offsets, items = np.array(events).T
    times = np.sort(np.cumsum(offsets) * DAY)
    data = replace(happened(np.zeros(len(items)), items, 6), times=times)
    lessons = Lessons(data, np.array([0, 2, 4], np.int32), days)
    for time in times:
        moment = np.searchsorted(lessons.until, time, side="right")
        until = lessons.until[moment]
        assert time < until
        recent = items[(times >= until - days * DAY) & (times < until)]
        expected = [np.log1p((recent == item).sum()) for item in (0, 2, 4)]
        assert lessons.popular[moment] == pytest.approx(expected, rel=1e-6)
