import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import lil_array
from scipy.sparse.csgraph import connected_components, maximum_flow
from scipy.stats import chi2

from federation.errors import Refused
from federation.masks import BLOCK, REACH, KeyPair, Masks, neighbours
from federation.plan import RoundPlan


def agree(names, **plan):
    plan = RoundPlan(run="r", number=0, cohort=tuple(names), **plan)
    pairs = {name: KeyPair() for name in names}
    publics = {name: pair.public for name, pair in pairs.items()}
    return {name: Masks(name, pair, publics, plan) for name, pair in pairs.items()}


names = st.sets(st.text(min_size=1, max_size=6), min_size=2, max_size=6)


@settings(max_examples=30)
@given(
    names,
    st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]),
    st.lists(st.integers(0, 50), max_size=4),
)
def test_masked_sums_equal_unmasked_bit_for_bit(names, kind, lengths):
    masks = agree(names)
    random = np.random.default_rng(1)
    for length in lengths:
        words = {name: random.integers(0, 256, length).astype(kind) for name in names}
        with np.errstate(over="ignore"):
            masked = sum((masks[name].apply(words[name]) for name in names), np.zeros(length, kind))
        np.testing.assert_array_equal(masked, sum(words.values(), np.zeros(length, kind)))


@pytest.mark.parametrize("size", [24, 25, 26, 27, 40, 64])
def test_masks_of_neighbours_cancel_in_a_large_cohort(size):
    masks = agree([f"p{number}" for number in range(size)])
    words = np.arange(5, dtype=np.uint64)
    masked = {name: mask.apply(words) for name, mask in masks.items()}
    np.testing.assert_array_equal(sum(masked.values(), np.zeros(5, np.uint64)), size * words)
    assert len(np.unique(np.concatenate([*masked.values()]))) == size * 5


@pytest.mark.parametrize("size", [2, 3, 25])
def test_in_a_small_cohort_all_are_neighbours(size):
    ring = [f"p{number}" for number in range(size)]
    assert all(neighbours(name, ring) == {*ring} - {name} for name in ring)


@pytest.mark.parametrize("size", [26, 31, 50, 64])
def test_fewer_than_24_cannot_cut_a_participant_off(size):
    """Menger: as many disjoint paths join any two. All places of the ring are alike, so the first will do."""
    ring = [f"p{number:02}" for number in range(size)]
    ways = lil_array((2 * size, 2 * size), dtype=np.int32)  # a participant is a way in and a way out
    for place, name in enumerate(ring):
        ways[2 * place, 2 * place + 1] = 1
        for other in neighbours(name, ring):
            ways[2 * place + 1, 2 * ring.index(other)] = 1
    far = [place for place in range(1, size) if ring[place] not in neighbours(ring[0], ring)]
    assert {maximum_flow(ways.tocsr(), 1, 2 * place).flow_value for place in far} == {2 * REACH}
    between = [*range(1, REACH + 1), *range(far[-1] + 1, size)]
    rest = [place for place in range(size) if place not in between]
    among = np.array([[ring[b] in neighbours(ring[a], ring) for b in rest] for a in rest])
    assert connected_components(among)[0] == 2  # all 24 can


def test_masks_longer_than_a_block_cancel():
    masks = agree("abc")
    words = np.arange(BLOCK // 4 * 2 + 7, dtype=np.uint32)
    total = sum((mask.apply(words) for mask in masks.values()), np.zeros_like(words))
    np.testing.assert_array_equal(total, 3 * words)


def test_pieces_of_any_length_are_one_stream():
    pairs = {name: KeyPair() for name in "abc"}
    publics = {name: pair.public for name, pair in pairs.items()}
    plan = RoundPlan(run="r", number=0, cohort=("a", "b", "c"))
    whole, pieces = (Masks("b", pairs["b"], publics, plan) for _ in range(2))
    lengths = [1, 0, BLOCK // 4 - 3, 5, 17, 3 * BLOCK // 4 + 1, 2]
    found = np.concatenate([pieces.apply(np.zeros(length, np.uint32)) for length in lengths])
    np.testing.assert_array_equal(found, whole.apply(np.zeros(sum(lengths), np.uint32)))


def test_widths_share_no_piece_of_a_keystream():
    """Between two, a pad is the keystream itself, in blocks of 16 bytes."""
    mask = agree("ab")["a"]
    size, blocks = 1 << 14, set()
    for kind in (np.uint8, np.uint16, np.uint32, np.uint64):
        pad = mask.apply(np.zeros(size // np.dtype(kind).itemsize, kind)).tobytes()
        blocks |= {pad[start : start + 16] for start in range(0, size, 16)}
    assert len(blocks) == 4 * size // 16


def test_a_masked_update_looks_uniform():
    """Chi-square over the bytes of what an aggregator sees; fails by chance once in 10^9 runs."""
    view = agree("abc")["b"].apply(np.zeros(1 << 17, np.uint64)).view(np.uint8)
    expected = view.size / 256
    statistic = ((np.bincount(view, minlength=256) - expected) ** 2 / expected).sum()
    assert chi2.isf(1 - 1e-9, 255) < statistic < chi2.isf(1e-9, 255)


def test_neighbouring_words_are_unrelated():
    view = agree("ab")["a"].apply(np.zeros(1 << 16, np.uint64)).view(np.int64).astype(float)
    assert abs(np.corrcoef(view[1:], view[:-1])[0, 1]) < 6.1 / np.sqrt(view.size)


def test_the_stream_goes_on_and_every_attempt_has_its_own():
    zeros = np.zeros(64, np.uint64)
    mask = agree("ab")["a"]
    first, second = mask.apply(zeros), mask.apply(zeros)
    other = agree("ab")["a"].apply(zeros)
    assert not np.isin(first, second).any()
    assert not np.isin(first, other).any()


def test_the_same_keys_give_other_masks_in_another_attempt():
    pairs = {name: KeyPair() for name in "ab"}
    publics = {name: pair.public for name, pair in pairs.items()}
    plan = RoundPlan(run="r", number=0, cohort=("a", "b"))
    views = [
        Masks("a", pairs["a"], publics, each).apply(np.zeros(8, np.uint64))
        for each in (plan, plan.again(("a", "b")), RoundPlan(run="s", number=0, cohort=("a", "b")))
    ]
    assert len(set(np.concatenate(views).tolist())) == 24


def test_does_not_change_what_it_is_given():
    words = np.zeros(4, np.uint32)
    agree("ab")["a"].apply(words)
    assert not words.any()


def test_keys_are_never_shown(caplog):
    caplog.set_level(logging.DEBUG)
    pair = KeyPair()
    masks = agree("ab")["a"]
    private = pair._private.private_bytes_raw()
    shown = f"{pair!r} {pair} {masks!r} {masks} {caplog.text}"
    assert private.hex() not in shown
    assert repr(private) not in shown
    assert repr(masks) == "Masks(among a, b)"


def test_refuses_keys_that_do_not_fit():
    plan = RoundPlan(run="r", number=0, cohort=("a", "b"))
    pair, other = KeyPair(), KeyPair()
    for publics in ({"a": pair.public}, {"a": pair.public, "c": other.public}):
        with pytest.raises(Refused, match="do not fit the cohort"):
            Masks("a", pair, publics, plan)
    with pytest.raises(Refused, match="not its own"):
        Masks("a", pair, {"a": other.public, "b": other.public}, plan)
    for weak in (bytes(32), b"short"):
        with pytest.raises(Refused, match="b: its public key"):
            Masks("a", pair, {"a": pair.public, "b": weak}, plan)


def test_nobody_masks_alone():
    plan = RoundPlan(run="r", number=0, cohort=("a",))
    pair = KeyPair()
    with pytest.raises(Refused, match="do not fit"):
        Masks("a", pair, {"a": pair.public}, plan)
