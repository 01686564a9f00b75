"""Changes that organisations add: their sum is the mean, and what does not travel at once travels later."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import Refused
from federation.plan import RoundPlan
from federation.simulate import simulate
from recommenders import exchange
from recommenders.attention import Network
from recommenders.exchange import FORMS, ExchangeConfig
from recommenders.sequence import SequenceConfig
from recommenders.versions import Common, Versions, step

ITEMS, WIDTH, DENSE = 7, 3, 5
EVERYTHING = np.arange(ITEMS, dtype=np.int32)
COUNTS = st.lists(st.lists(st.integers(0, 5), min_size=ITEMS, max_size=ITEMS), min_size=2, max_size=5).map(
    np.array
)


def noise(seed, spread=0.1, items=ITEMS):
    """A network, or a change of one, of random numbers."""
    random = np.random.default_rng(seed)
    return Network(*(random.normal(0, spread, size).astype(np.float32) for size in (DENSE, (items, WIDTH))))


def terms(changes, counts, config, weighting="rows"):
    own = [exchange.weights(each, weighting, 1.0) for each in counts]
    shares = [exchange.shares(each, np.sum(own, axis=0)) for each in own]
    return [
        exchange.term(change, share, EVERYTHING, ITEMS, config, np.random.default_rng(place))
        for place, (change, share) in enumerate(zip(changes, shares, strict=True))
    ]


@given(COUNTS, st.sampled_from([8, 16, 32]))
def test_the_sum_is_the_mean_by_events_and_that_of_an_item_by_its_own(counts, bits):
    """Against means of float64; whoever has no event of an item has no say about its row."""
    config, before = ExchangeConfig(bits=bits), noise(99)
    changes = [noise(seed) for seed in range(len(counts))]
    words = sum(config.form.encode(each) for each in terms(changes, counts, config))
    found = step(Common(before, *[np.zeros(0)] * 2), config.form.decode(words), EVERYTHING, None, config)
    near = {"abs": 2e-7 + len(counts) * 2.0**-config.form.fraction_bits}
    weights = counts.sum(axis=1)
    mean = np.average([each.dense for each in changes], axis=0, weights=weights) if weights.any() else 0
    assert found.network.dense == pytest.approx(before.dense + mean, **near)
    for item, weights in enumerate(counts.T):
        rows = [each.table[item] for each in changes]
        mean = np.average(rows, axis=0, weights=weights) if weights.any() else 0
        assert found.network.table[item] == pytest.approx(before.table[item] + mean, **near)


@given(COUNTS, st.sampled_from([8, 16, 32]), st.integers(0, 2**32 - 1))
def test_no_sum_overflows_however_large_the_changes_are(counts, bits, seed):
    config, spread = ExchangeConfig(bits=bits), 5.0
    said = terms([noise([seed, place], spread) for place in range(len(counts))], counts, config)
    whole = np.sum(said, axis=0)
    assert np.array_equal(config.form.decode(sum(config.form.encode(each) for each in said)), whole)
    assert (np.abs(whole) <= config.bound + len(counts) * 2.0**-config.form.fraction_bits).all()


@pytest.mark.parametrize(("bits", "largest"), [(8, 63), (16, 4_095), (32, 2_118_123_519)])
def test_a_sum_of_the_largest_cohort_fits_a_word(bits, largest):
    """Each term may be rounded away from 0 by a unit."""
    config = ExchangeConfig(bits=bits)
    assert config.largest_cohort == largest
    form, whole = config.form, config.bound + largest * 2.0**-config.form.fraction_bits
    assert form.encode(np.array([whole, -whole])).size == 2
    with pytest.raises(Refused):
        form.encode(np.array([whole + 2.0**-form.fraction_bits]))


def test_rounding_keeps_the_mean():
    """Of changes far below a unit, too, which rounding to the nearest would lose."""
    unit, share = 2.0 ** -FORMS[16][0].fraction_bits, np.ones(ITEMS + 1)
    change = Network(np.full(DENSE, 0.1 * unit, np.float32), np.full((ITEMS, WIDTH), -0.3 * unit, np.float32))
    random = np.random.default_rng(0)
    said = [exchange.term(change, share, EVERYTHING, ITEMS, ExchangeConfig(), random) for _ in range(4000)]
    assert set(np.unique(said)) == {-unit, 0, unit}
    assert np.mean(said, axis=0) == pytest.approx(flat(change), abs=4 * unit / np.sqrt(4000) / 2)


def flat(network):
    return np.concatenate([network.dense, network.table.ravel()]).astype(np.float64)


def test_who_has_some_items_only_adds_to_their_rows():
    own, change, share = np.array([1, 4], np.int32), noise(0, items=2), np.array([0.5, 1.0, 0.25])
    said = exchange.term(change, share, own, ITEMS, ExchangeConfig(), np.random.default_rng(0))
    told = said[DENSE:].reshape(ITEMS, WIDTH)
    assert told[own] == pytest.approx(share[:2, None] * change.table, abs=2**-14)
    assert not told[[0, 2, 3, 5, 6]].any()
    assert said[:DENSE] == pytest.approx(0.25 * change.dense, abs=2**-14)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.floats(0.01, 1), st.integers(0, 2))
def test_the_items_that_weigh_most_are_learned_and_all_rows_of_content(weights, keep, numbers):
    """Against sorting by weight, then by place."""
    total = np.array([*weights, sum(weights)])
    found = exchange.learned(total, keep, len(weights) + numbers).tolist()
    order = sorted(range(len(weights)), key=lambda item: (-weights[item], item))
    kept = sorted(order[: len(found) - numbers])
    assert found == [*kept, *range(len(weights), len(weights) + numbers)]
    assert keep * len(weights) <= len(kept) < keep * len(weights) + 1
    assert len(kept) == len(weights) or keep < 1


@pytest.mark.parametrize("config", [ExchangeConfig(), ExchangeConfig(rank=2), ExchangeConfig(server="adam")])
def test_rows_that_are_not_learned_are_nothing_and_the_rest_is_as_without_them(config):
    """As a network that has the learned rows alone, and never heard of the others."""
    learned, first = np.array([1, 4, 5], np.int32), noise(0)
    width = WIDTH if config.rank is None else config.rank
    sums = [np.random.default_rng(number).normal(size=DENSE + 3 * width) for number in range(3)]
    found = Versions(first, learned, config, (7, 1), sums.__getitem__)
    alone = Versions(first.of(learned), np.arange(3, dtype=np.int32), config, (7, 1), sums.__getitem__)
    for number in (0, 3):
        whole, part = found.after(number), alone.after(number)
        assert all(np.array_equal(*each) for each in zip(whole.of(learned), part, strict=True))
        assert not np.delete(whole.table, learned, axis=0).any()


def test_rows_in_few_directions_are_rows_of_the_table():
    """Against a product of matrices; the same directions for everyone, and others in each round."""
    config, rows = ExchangeConfig(rank=2), np.random.default_rng(0).normal(size=(ITEMS, 2))
    basis, before = config.basis(WIDTH, 1, 0, 5), noise(9)
    assert basis.shape == (2, WIDTH)
    assert np.array_equal(ExchangeConfig(rank=2).basis(WIDTH, 1, 0, 5), basis)
    assert not all(np.array_equal(config.basis(WIDTH, 1, 0, other), basis) for other in range(5))
    assert np.abs(basis) == pytest.approx(1 / np.sqrt(2))
    total = np.concatenate([noise(3).dense, rows.ravel()])
    found = step(Common(before, *[np.zeros(0, np.float32)] * 2), total, EVERYTHING, basis, config)
    assert found.network.table == pytest.approx(before.table + rows @ basis, abs=1e-6)
    assert found.network.dense == pytest.approx(before.dense + noise(3).dense, abs=1e-6)


def test_directions_of_a_round_need_all_to_begin_at_once():
    with pytest.raises(ValueError, match=r"rank: found 8 with together 0\.5, expected null or together 1"):
        ExchangeConfig(rank=8, together=0.5)


def test_directions_are_fewer_than_the_numbers_of_an_item():
    """As many would cost what all numbers do, and say less."""
    for rank in (8, 9):
        with pytest.raises(ValueError, match=rf"exchange.rank: found {rank}, expected null or fewer than wi"):
            SequenceConfig(width=8, exchange=ExchangeConfig(rank=rank))
    assert SequenceConfig(width=8, exchange=ExchangeConfig(rank=7)).exchange.rank == 7


@pytest.mark.parametrize(
    ("weighting", "passed", "expected"),
    [("rows", 0.5, [2, 0, 3, 5]), ("equal", 0.5, [1, 0, 1, 1]), ("quality", 0.5, [1024, 0, 1536, 2560])],
)
def test_a_participant_weighs_by_its_events_by_their_quality_or_as_any_other(weighting, passed, expected):
    assert exchange.weights(np.array([2, 0, 3]), weighting, passed).tolist() == expected
    assert exchange.weights(np.zeros(3, np.int64), weighting, passed).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 65.0, -65.0])
def test_a_network_that_training_has_spoilt_is_not_added(value):
    spoilt = noise(1)
    spoilt.table[3, 2] = value
    with pytest.raises(
        Refused, match=r"changes a parameter by more than 64, .* a smaller model\.sequence\.learning_rate"
    ):
        exchange.term(
            spoilt, np.ones(ITEMS + 1), EVERYTHING, ITEMS, ExchangeConfig(), np.random.default_rng(0)
        )


def test_who_comes_late_weighs_less():
    config = ExchangeConfig(staleness=0.5)
    assert [config.late(steps) for steps in (0, 3, 8)] == [1, 0.5, pytest.approx(1 / 3)]
    assert ExchangeConfig(staleness=0).late(9) == 1


def test_adam_steps_as_torch_does():
    """torch's Adam without its correction of the first steps, of minus the change as the gradient."""
    torch = pytest.importorskip("torch")
    config, before = ExchangeConfig(server="adam", rate=0.05), noise(9)
    size = DENSE + ITEMS * WIDTH
    common = Common(before, np.zeros(size, np.float32), np.zeros(size, np.float32))
    theta = torch.tensor(flat(before))
    adam = torch.optim.Adam([theta], lr=0.05, betas=(0.9, 0.99), eps=1e-3)
    adam.state[theta] |= {
        "step": torch.tensor(1e9),  # so that the corrections are 1
        "exp_avg": torch.zeros_like(theta),
        "exp_avg_sq": torch.zeros_like(theta),
    }
    for number in range(6):
        total = flat(noise(number))
        common = step(common, total, EVERYTHING, None, config)
        theta.grad = torch.tensor(-total)
        adam.step()
        assert flat(common.network) == pytest.approx(theta.numpy(), abs=1e-5)


@pytest.mark.parametrize("server", ["average", "adam"])
def test_networks_follow_from_the_sums_alone_in_whatever_order_they_are_asked_for(server):
    config = ExchangeConfig(server=server, rate=0.5, rank=2)
    sums = [np.random.default_rng(number).normal(size=DENSE + ITEMS * 2) for number in range(5)]
    asked = Versions(noise(0), EVERYTHING, config, (7, 1), sums.__getitem__)
    forwards = [asked.after(number) for number in range(6)]
    for number in (2, 5, 0, 3, 3):
        anew = Versions(noise(0), EVERYTHING, config, (7, 1), sums.__getitem__).after(number)
        for found in (asked.after(number), anew):
            assert all(np.array_equal(*each) for each in zip(found, forwards[number], strict=True))
    assert all(np.array_equal(*each) for each in zip(forwards[0], noise(0), strict=True))


@pytest.mark.parametrize("masks", [True, False])
def test_masks_on_or_off_the_sum_has_the_same_bits(masks):
    counts, config = np.arange(3 * ITEMS).reshape(3, ITEMS), ExchangeConfig()
    said = terms([noise(seed) for seed in range(3)], counts, config)
    jobs = {
        f"shop{place}": partial(lambda term, channel: channel.sum("change", term, config.form), each)
        for place, each in enumerate(said)
    }
    opened = simulate(jobs, RoundPlan(run="r", number=0, cohort=tuple(jobs)), masks)
    whole = np.sum(said, axis=0)
    assert all(np.array_equal(each, whole) for each in opened.values())
