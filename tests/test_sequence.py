"""The transformer: what it reads is what torch reads, and what comes of it."""

from contextlib import nullcontext

import numpy as np
import pytest
from histories import happened
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import BadInput
from flows.setup import check
from recommenders import sequence
from recommenders.attention import Network, named, scores, shapes
from recommenders.sequence import Histories, Reader, SequenceConfig
from tasks.model import ModelConfig
from tasks.sequences import require_torch

SMALL = SequenceConfig(width=8, length=5, blocks=2, heads=2, dropout=0.1, batch=16, learning_rate=0.01)


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


@given(
    st.sets(st.integers(0, 6)),
    st.lists(st.lists(st.integers(0, 6), max_size=5), min_size=1, max_size=6),
)
def test_what_the_network_does_not_know_is_as_if_it_had_not_been_had(unknown, histories):
    network = noise(3)
    network.table[[*unknown]] = 0
    without = [[item for item in each if item not in unknown] for each in histories]
    whole, expected = (
        scores(network, SMALL.size, np.array([each + [-1] * (5 - len(each)) for each in those]))
        for those in (histories, without)
    )
    assert np.array_equal(whole, expected)
    assert not whole[:, [*unknown]].any()


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
