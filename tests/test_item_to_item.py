"""EASE through sums: equal to the closed form on pooled rows; a toy world with a known answer."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from federation.errors import BadInput, Refused
from federation.plan import RoundPlan
from federation.simulate import simulate
from recommenders.choice import Choice, choose
from recommenders.exploration import ExploreConfig
from recommenders.interactions import Interactions
from recommenders.item_to_item import (
    assemble,
    gram_blocks,
    gram_form,
    memory_needed,
    own_gram,
    require_memory,
    row_blocks,
    shared_gram,
    solve,
    sum_gram,
)
from tasks.model import ModelConfig
from tasks.terms import keep_terms


def shop(rng, users, items, events):
    return Interactions(
        users=rng.integers(0, users, events).astype(np.int32),
        items=rng.integers(0, items, events).astype(np.int32),
        times=np.arange(events),
        user_count=users,
        item_count=items,
    )


def dense(data):
    matrix = np.zeros((data.user_count, data.item_count))
    matrix[data.users, data.items] = 1
    return matrix


def closed_form(matrix, regularisation):
    """Steck 2019, equation 8, with a textbook inverse."""
    inverse = np.linalg.inv(matrix.T @ matrix + regularisation * np.eye(matrix.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@pytest.mark.parametrize("masks", [True, False])
def test_share_one_over_the_union_is_ease_on_pooled_rows(masks, monkeypatch):
    monkeypatch.setattr("recommenders.item_to_item.BLOCK_CELLS", 300)
    rng, items = np.random.default_rng(0), 60
    shops = {name: shop(rng, 80, items, 600) for name in ("a", "b", "c")}
    form = gram_form(1000, len(shops))
    assert len(row_blocks(items)) > 3

    def part(data):
        return lambda channel: [*sum_gram(channel, gram_blocks(data), form)]

    plan = RoundPlan(run="r", number=0, cohort=tuple(shops))
    blocks = simulate({name: part(data) for name, data in shops.items()}, plan, masks)
    every = np.arange(items, dtype=np.int32)
    pooled = np.concatenate([dense(data) for data in shops.values()])
    total = assemble(iter(blocks["a"]), items, every)
    assert np.array_equal(total, pooled.T @ pooled)
    own = own_gram(shops["b"], every)
    assert np.array_equal(shared_gram(own, total, 1.0), total)
    assert np.array_equal(shared_gram(own, total, 0.25), own + 0.25 * (total - own))
    assert solve(shared_gram(own, total, 1.0), 20.0) == pytest.approx(closed_form(pooled, 20.0), abs=1e-6)
    some = np.array([3, 7, 41, 59], np.int32)
    narrow = assemble((block.astype(np.uint16) for block in blocks["c"]), items, every)
    assert narrow.dtype == np.uint16
    assert np.array_equal(narrow, total)
    assert np.array_equal(assemble(iter(blocks["c"]), items, some), (pooled.T @ pooled)[np.ix_(some, some)])


@pytest.mark.parametrize("items", [1, 127, 128, 129, 300])
def test_solving_in_place_equals_the_textbook(items):
    rng = np.random.default_rng(items)
    matrix = (rng.random((150, items)) < 0.1).astype(float)
    assert solve(matrix.T @ matrix, 5.0) == pytest.approx(closed_form(matrix, 5.0), abs=1e-5)


def test_who_had_sold_nothing_has_nothing_to_solve_and_lapack_no_complaint(capfd):
    assert solve(np.zeros((0, 0)), 10.0).shape == (0, 0)
    assert "".join(capfd.readouterr()) == ""


def test_a_checkerboard_puts_the_withheld_item_first():
    """Users of one colour like items of that colour; the withheld one scores highest of the unseen."""
    users, items = 40, 20
    world = np.equal.outer(np.arange(users) % 2, np.arange(items) % 2).astype(float)
    world[4, 10] = 0
    pairs = np.argwhere(world).astype(np.int32)
    data = Interactions(pairs[:, 0], pairs[:, 1], np.arange(len(pairs)), users, items)
    weights = solve(own_gram(data, np.arange(items, dtype=np.int32)), 1.0)
    scores = np.where(world[4] > 0, -np.inf, world[4] @ weights)
    assert scores.argmax() == 10


def test_small_cells_are_hidden_only_where_that_is_asked():
    data = shop(np.random.default_rng(1), 30, 10, 60)
    every = np.arange(10, dtype=np.int32)
    plain = assemble(gram_blocks(data), 10, every)
    hidden = assemble(gram_blocks(data), 10, every, hide_below=2)
    off = ~np.eye(10, dtype=bool)
    assert np.array_equal(hidden, np.where((plain < 2) & off, 0, plain))
    assert np.array_equal(plain, dense(data).T @ dense(data))


def test_the_narrowest_words_that_cannot_overflow():
    assert gram_form(20_000, 3).width == 16
    assert gram_form(22_000, 3).width == 32
    assert gram_form(2**32, 3).width == 64


@pytest.mark.parametrize("users", [21_845, 21_846, 70_000])
def test_more_users_of_an_item_than_the_words_hold_are_refused(tmp_path, users):
    everyone = np.arange(users, dtype=np.int32)
    data = Interactions(everyone, everyone * 0, everyone.astype(np.int64), users, 1)
    model = ModelConfig(kind="item_to_item", users_bound=10_000)
    membership = SimpleNamespace(model=model, participants=3, explore=ExploreConfig())
    room = SimpleNamespace(work=lambda *_: tmp_path, membership=membership)
    prepared = SimpleNamespace(
        data=data, opened_in=lambda _: [1], before=lambda _: data, begins=lambda _: users
    )
    if users <= 21_845:
        return keep_terms(room, prepared, "r", 0)
    with pytest.raises(Refused, match="outside"):
        keep_terms(room, prepared, "r", 0)


def test_too_large_a_catalogue_is_refused_with_an_alternative():
    require_memory(30_000, 24)
    with pytest.raises(BadInput, match="popularity"):
        require_memory(60_000, 24)
    require_memory(30_000, 17)
    with pytest.raises(BadInput, match=r"needs 20\.1 GiB"):  # beside the own weights
        require_memory(30_000, 17, held=ModelConfig(kind="two_stage").held)


def test_a_solve_takes_the_memory_that_is_foreseen():
    items = 1_500
    tracemalloc.start()
    own, total = (np.ones((items, items), np.int32) for _ in range(2))
    solve(shared_gram(own, total, 0.1), 50.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert memory_needed(items) <= peak < 1.1 * memory_needed(items)


def test_a_smaller_share_wins_a_tie():
    queries = np.ones(10)
    best = choose(lambda choice: queries, "item_to_item", (0.0, 0.1, 1.0), (5.0, 50.0))
    assert best == Choice("item_to_item", 0.0, 5.0)


def test_the_best_share_and_strength_are_found():
    def quality(choice):
        return np.full(4, -abs(choice.share - 0.1) - abs(choice.strength - 50) / 1000)

    assert choose(quality, "item_to_item", (0.0, 0.1, 1.0), (5.0, 50.0)) == Choice("item_to_item", 0.1, 50.0)


def test_a_choice_is_tried_once():
    """To try one can be to solve, or to read all histories."""
    tried = []

    def quality(choice):
        tried.append(choice)
        return np.array([choice.share])

    choose(quality, "item_to_item", (0.0, 0.1, 1.0), (5.0, 50.0))
    assert len(tried) == len(set(tried)) == 5


def test_weights_give_the_gram_back_to_who_holds_the_model():
    """As docs/threat-model.md says: up to one scale, here taken from the users of one item."""
    matrix = dense(shop(np.random.default_rng(7), 80, 12, 400))
    gram = matrix.T @ matrix
    scaled = np.linalg.inv(np.eye(12) - solve(gram.copy(), 20.0))  # rows of X'X + 20 I, each times a number
    system = scaled * (scaled[0] / scaled[:, 0] / scaled[0, 0] * (gram[0, 0] + 20))[:, None]
    np.testing.assert_array_equal(np.rint(system - 20 * np.eye(12)), gram)
