from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.averaging import Averaging, contribution, initial_parameters, mean, train_round
from federation.channel import Solo
from federation.errors import Refused
from federation.plan import RoundPlan
from federation.simulate import simulate

SHOPS = ("a", "b", "c")
RETURNED = {"a": [0.15, 0.25, 0.35], "b": [0.12, 0.24, 0.36], "c": [0.14, 0.26, 0.34]}


class Returns:
    """An algorithm whose participants return what they were given."""

    def __init__(self, averaging, weights=(1.0, 1.0, 1.0)):
        self.averaging, self.weights = averaging, dict(zip(SHOPS, weights, strict=True))

    def init(self, seed):
        return initial_parameters(3, seed, np.array([0.1, 0.2, 0.3]))

    def update(self, state, data, rng):
        return contribution(np.array(RETURNED[data]), self.weights[data])

    def form(self, terms):
        return self.averaging.form(terms)

    def step(self, state, aggregate):
        return mean(aggregate)


def one_round(algorithm, masks=True):
    plan = RoundPlan(run="example", number=0, cohort=SHOPS)
    state = algorithm.init(plan.seed)

    def part(name, channel):
        return train_round(algorithm, state, name, channel, plan.stream(name), len(SHOPS))

    return simulate({name: partial(part, name) for name in SHOPS}, plan, masks)


def test_worked_example_through_masks():
    averaging = Averaging(weighting="equal", bound=1)
    for found in one_round(Returns(averaging)).values():
        assert np.abs(found - [0.41 / 3, 0.25, 0.35]).max() <= averaging.resolution(3, 3) + 2**-53


def test_masks_change_nothing():
    algorithm = Returns(Averaging(), (10.0, 0.0, 250.0))
    masked, open_ = one_round(algorithm)["a"], one_round(algorithm, masks=False)["a"]
    assert np.array_equal(masked, open_)


def test_mean_is_weighted_by_rows_and_by_quality():
    rows, passed = (600, 100, 300), (0.5, 1.0, 0.25)
    for weighting, weights in {"rows": rows, "quality": np.multiply(rows, passed)}.items():
        averaging = Averaging(weighting=weighting, bound=1)
        own = [averaging.weight(n, share) for n, share in zip(rows, passed, strict=True)]
        found = one_round(Returns(averaging, own))["b"]
        expected = np.average(list(RETURNED.values()), axis=0, weights=weights)
        assert np.abs(found - expected).max() <= averaging.resolution(3, sum(own)) + 2**-53


@given(
    st.integers(1, 5000),
    st.floats(1e-3, 1e6),
    st.integers(1, 2**30),
    st.sampled_from(["equal", "rows", "quality"]),
)
def test_no_sum_within_the_limits_can_overflow(terms, bound, most_rows, weighting):
    averaging = Averaging(weighting=weighting, bound=bound, most_rows=most_rows)
    heaviest = averaging.weight(most_rows)
    try:
        form = averaging.form(terms)
    except Refused:
        assert terms * heaviest * max(bound, 1) >= 2**61
        return
    word = form.encode(contribution(np.array([bound, -bound]), heaviest))
    opened = sum(int(value) for value in word.view(np.int64)[:1]) * terms
    assert opened < 2**63
    assert (
        form.fraction_bits == 64
        or terms * (heaviest * max(bound, 1) + 2) * 2.0 ** (form.fraction_bits + 1) >= 2**63
    )


@given(
    st.lists(
        st.tuples(st.floats(-4, 4), st.floats(-4, 4), st.integers(0, 1000)), min_size=1, max_size=12
    ).filter(lambda parts: any(part[2] for part in parts))
)
def test_mean_is_the_exact_one_within_the_resolution(parts):
    averaging = Averaging(bound=4, most_rows=1000)
    form = averaging.form(len(parts))
    table = np.array(parts)
    words = [form.encode(contribution(row[:2], row[2])) for row in table]
    found = mean(form.decode(np.sum(words, axis=0, dtype=np.uint64)))
    expected = np.average(table[:, :2], axis=0, weights=table[:, 2])
    assert np.abs(found - expected).max() <= averaging.resolution(len(parts), table[:, 2].sum()) + 1e-14


def test_a_parameter_beyond_the_bound_is_refused_with_the_participants_name():
    algorithm = Returns(Averaging(weighting="equal", bound=1), (1.0, 1e9, 1.0))
    with pytest.raises(Refused, match="b: sum 'update'"):
        one_round(algorithm)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_strange_weights_are_refused(weight):
    with pytest.raises(Refused, match="weight"):
        contribution(np.zeros(2), weight)


def test_a_mean_of_nobody_is_refused():
    total = Solo().sum("update", contribution(np.ones(2), 0.0), Averaging().form(1))
    with pytest.raises(Refused, match="sum to 0"):
        mean(total)


def test_rows_beyond_the_limit_are_refused():
    with pytest.raises(Refused, match="0 to 100 rows"):
        Averaging(most_rows=100).weight(101)


def test_initial_parameters_are_random_or_pretrained():
    assert np.array_equal(initial_parameters(4, 1), np.random.default_rng(1).standard_normal(4))
    assert initial_parameters(2, 1, np.array([3.0, 4.0])).tolist() == [3.0, 4.0]
    with pytest.raises(Refused, match="expected 2"):
        initial_parameters(2, 1, np.zeros(3))
