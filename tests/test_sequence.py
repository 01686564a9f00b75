"""The transformer: what it reads is what torch reads, and its federated rounds are sums."""

import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import BadInput
from federation.plan import RoundPlan
from federation.simulate import simulate
from flows.setup import check
from recommenders import exchange, sequence
from recommenders.attention import Network, named, scores, shapes
from recommenders.exchange import Common
from recommenders.interactions import Interactions
from recommenders.metrics import COUNTS, Queries, per_query
from recommenders.popularity import DAY
from recommenders.sequence import Histories, Reader, SequenceConfig
from tasks.model import ModelConfig
from tasks.sequences import by, require_torch

SMALL = SequenceConfig(width=8, length=5, blocks=2, heads=2, dropout=0.1, batch=16, learning_rate=0.01)
ABLE = SequenceConfig(width=16, length=5, blocks=1, dropout=0.0, batch=60, learning_rate=0.01, epochs=5)


NO_ADAM = np.zeros(0, np.float32), np.zeros(0, np.float32)


def happened(users, items, item_count):
    users, items = np.array(users, np.int32), np.array(items, np.int32)
    times = np.arange(len(users), dtype=np.int64)
    return Interactions(users, items, times, int(users.max(initial=-1)) + 1, item_count)


def walks(seed, first=0, starts=12, steps=4):
    """Events of 60 users who take one of 12 items in a circle, from an arc of it, and then the next."""
    begun = first + np.random.default_rng(seed).integers(starts, size=60)
    each = (begun[:, None] + np.arange(steps)) % 12
    return happened(np.repeat(np.arange(60), steps), each.ravel(), 12)


def noise(seed, items=7):
    """A network of random numbers, norms and biases too."""
    random = np.random.default_rng(seed)
    size = sequence.initial(items, SMALL, 0).dense.size
    return Network(*(random.normal(0, 0.5, shape).astype(np.float32) for shape in (size, (items, 8))))


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=5), min_size=1, max_size=6),
)
def test_what_is_read_is_what_torch_reads(seed, histories):
    torch = pytest.importorskip("torch")
    from recommenders.transformer import Transformer

    network, steps = noise(seed), max(map(len, histories))
    filled = np.array([each + [-1] * (steps - len(each)) for each in histories])
    model = Transformer(network, SMALL.size, 0.5).eval()
    with torch.no_grad():
        state = model(torch.tensor(filled))[np.arange(len(filled)), [len(each) - 1 for each in histories]]
        expected = (state @ model.rows(torch.arange(7)).T).numpy()
    found = scores(network, SMALL.size, filled)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert not any(each.any() for each in model.change())


def test_a_network_that_is_trusted_by_half_says_half():
    read = np.array([[3, 1, -1], [2, -1, -1]])
    half = scores(noise(1).trusted(0.5), SMALL.size, read)
    assert half == pytest.approx(0.5 * scores(noise(1), SMALL.size, read), rel=1e-5)


def test_after_nothing_only_popularity_is_told():
    assert not scores(noise(1), SMALL.size, np.full((2, 3), -1)).any()
    assert scores(noise(1), SMALL.size, np.zeros((0, 3), int)).shape == (0, 7)


def test_a_network_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"expected [0-9]+ parameters beside the table, found 3"):
        named(np.zeros(3, np.float32), SMALL.size)
    with pytest.raises(ValueError, match="heads: found 3, expected a divisor of width 8"):
        SequenceConfig(width=8, heads=3)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=30), st.integers(1, 4))
def test_histories_are_the_newest_events_in_order(events, most):
    users, items = zip(*events, strict=True) if events else ((), ())
    data, known = happened([*users, 4], [*items, 0], 7), np.array([0, 2, 3, 5], np.int32)
    found = Histories(data, known)
    newest = found.newest(np.arange(5, dtype=np.int32), most)
    for user in range(5):
        expected = [[*known].index(item) for who, item in [*events, (4, 0)] if who == user and item in known]
        assert [*newest[user][newest[user] >= 0]] == expected[-most:]
        assert found.sizes()[user] == len(expected)


def federated(parts, rounds, masks=True):
    from recommenders.transformer import train

    items, network = parts[0].item_count, sequence.initial(parts[0].item_count, ABLE, 0)
    names = [f"shop{place}" for place in range(len(parts))]

    def work(name, data, before, number, channel):
        own = data.own_items()
        random = np.random.default_rng([number, names.index(name)])
        change = train(before.of(own), ABLE, data, own, 30, random)
        counts = exchange.weights(np.bincount(data.items, minlength=items), "rows", 1.0)
        share = exchange.shares(counts, channel.sum("weights", counts, COUNTS))
        part = np.append(share[own], share[-1])
        term = exchange.term(change, part, own, items, ABLE.exchange.form, random)
        total = channel.sum("update", term, ABLE.exchange.form)
        return exchange.step(Common(before, *NO_ADAM), total, None, ABLE.exchange).network

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
    pytest.importorskip("torch")
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
    pytest.importorskip("torch")
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
    pytest.importorskip("torch")
    from recommenders.transformer import train

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
    pytest.importorskip("torch")
    from recommenders.transformer import train

    data = walks(0)
    before, items = sequence.initial(12, SMALL, 0), data.own_items()

    def moved(strength):
        config = SMALL.model_copy(update={"proximal": strength, "dropout": 0.0})
        change = train(before, config, data, items, 30, np.random.default_rng(0))
        return float(np.square(change.dense).sum())

    assert moved(100.0) < moved(1.0) < moved(0.0)


def test_without_events_nothing_is_learned():
    pytest.importorskip("torch")
    from recommenders.transformer import train

    nobody, before = happened([0], [3], 12), sequence.initial(12, SMALL, 0)
    change = train(before, SMALL, nobody, np.arange(12, dtype=np.int32), 30, np.random.default_rng(0))
    assert not any(each.any() for each in change)


def test_an_untrained_network_is_the_same_for_a_seed():
    one, same, other = (sequence.initial(9, SMALL, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.dense, same.dense)
    assert np.array_equal(one.table, same.table)
    assert not np.array_equal(one.table, other.table)
    assert len(one.dense) == sum(int(np.prod(shape)) for shape in shapes(SMALL.size).values())


@pytest.mark.parametrize(("kind", "refused"), [("sequence", True), ("popularity", False)])
def test_who_has_no_torch_is_told_before_a_run_begins(kind, refused, monkeypatch, tiny):
    monkeypatch.setattr("tasks.sequences.find_spec", lambda name: None)
    path = tiny("tiny")
    path.write_text(path.read_text().replace("kind: item_to_item", f"kind: {kind}"))
    told = pytest.raises(BadInput, match=r"east: .* found sequence, which trains with torch, found none")
    with told if refused else nullcontext():
        check(path, None)
    with told if refused else nullcontext():
        require_torch("east", ModelConfig(kind=kind))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_own_network_has_its_share_of_a_score(share):
    one, other, read = noise(1), noise(2), np.array([[3, 1, -1], [2, -1, -1]])
    found = Reader(one, other, share).scores(SMALL.size, read)
    expected = (1 - share) * scores(one, SMALL.size, read) + share * scores(other, SMALL.size, read)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
    again = Reader.of_arrays(Reader(one, other, share).arrays())
    assert np.array_equal(again.scores(SMALL.size, read), found)


def test_a_step_scores_what_follows_and_a_sample_that_stands_for_the_rest():
    """Over many draws the sampled partition function is near that over all items."""
    pytest.importorskip("torch")
    from recommenders.transformer import _scored

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
    pytest.importorskip("torch")
    from recommenders.transformer import Lessons, Transformer

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
    pytest.importorskip("torch")
    from recommenders.transformer import Lessons

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
