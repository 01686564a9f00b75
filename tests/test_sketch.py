import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.channel import Solo
from federation.errors import Refused
from federation.plan import RoundPlan
from federation.simulate import simulate
from federation.sketch import CELLS, quantiles

PROBABILITIES = [0.0, 0.1, 0.25, 0.5, 0.9, 1.0]
VALUES = st.floats(-1e140, 1e140) | st.integers(-9, 9).map(float) | st.just(math.nan)


class Listening(Solo):
    def __init__(self):
        super().__init__()
        self.sizes = []

    def sum(self, name, vector, form):
        self.sizes.append(vector.size)
        return super().sum(name, vector, form)


def truncated(value, bits):
    """The number of the value's cell that has the shortest mantissa: what its lower bits hide is gone."""
    word = np.array([value + 0.0]).view(np.uint64)
    return float((word & ~np.uint64(2 ** (64 - bits) - 1)).view(np.float64)[0])


def wanted(values, probability, bits):
    present = sorted(value for value in values if not math.isnan(value))
    return (
        truncated(present[max(math.ceil(probability * len(present)), 1) - 1], bits) if present else math.nan
    )


@settings(max_examples=60)
@given(st.lists(st.tuples(VALUES, VALUES), max_size=30), st.sampled_from([12, 13, 20, 32, 64]), st.data())
def test_quantiles_are_the_sorted_ones_whoever_holds_which_row(rows, bits, data):
    rows = np.array(rows).reshape(-1, 2)
    owners = np.array([data.draw(st.integers(0, 2)) for _ in rows], int)
    plan = RoundPlan(run="test", number=0, cohort=("a", "b", "c"))
    jobs = {
        name: partial(quantiles, columns=rows[owners == owner], probabilities=PROBABILITIES, bits=bits)
        for owner, name in enumerate(plan.cohort)
    }
    for found in simulate(jobs, plan, masks=False).values():
        for column in range(2):
            expected = [wanted(rows[:, column], p, bits) for p in PROBABILITIES]
            assert np.array_equal(found.values[column], expected, equal_nan=True)
            assert found.missing[column] == np.isnan(rows[:, column]).sum()
            assert found.count[column] + found.missing[column] == len(rows)


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(0, 99), st.sampled_from([0.0, 0.05, 0.3]), st.sampled_from([14, 32]))
def test_rank_error_holds(rows, seed, tolerance, bits):
    values = np.random.default_rng(seed).normal(size=rows)
    found = quantiles(Solo(), values, PROBABILITIES, bits, tolerance)
    below = np.array([(values < value).mean() for value in found.values[0]])
    target = np.maximum(np.ceil(np.array(PROBABILITIES) * rows), 1) / rows
    assert np.all(np.abs(below - target) <= found.rank_error[0] + 1e-12)
    assert bits == 14 or found.rank_error[0] <= max(tolerance, 1.5 / rows)


def test_integers_come_back_as_they_are():
    values = np.random.default_rng(0).integers(-300, 300, 1000).astype(float)
    found = quantiles(Solo(), values, np.linspace(0, 1, 21))
    assert np.array_equal(found.values[0], np.quantile(values, np.linspace(0, 1, 21), method="inverted_cdf"))


def test_representatives_are_nobodys_value():
    values = np.random.default_rng(0).normal(size=2000)
    found = quantiles(Solo(), values, np.linspace(0, 1, 255))
    assert not np.isin(found.values, values).any()


def test_columns_for_255_bins_take_few_sums_of_bounded_size():
    columns = np.random.default_rng(0).normal(size=(4000, 50))
    channel = Listening()
    found = quantiles(channel, columns, np.linspace(0, 1, 255))
    assert len(channel.sizes) <= 7
    assert max(channel.sizes) <= CELLS
    exact = np.quantile(columns, np.linspace(0, 1, 255), axis=0, method="inverted_cdf").T
    assert np.allclose(found.values, exact, rtol=1e-6)


def test_tolerance_leaves_cells_wide():
    values = np.random.default_rng(0).uniform(1, 2, 5000)
    coarse, fine = Listening(), Listening()
    assert quantiles(coarse, values, [0.5], tolerance=0.01).rank_error[0] <= 0.01
    quantiles(fine, values, [0.5])
    assert len(coarse.sizes) < len(fine.sizes)


def test_what_cannot_be_sketched_is_refused():
    with pytest.raises(Refused, match="column 'age': the value in row 1 is infinite"):
        quantiles(Solo(), np.array([1.0, np.inf]), [0.5], names=["age"])
    with pytest.raises(Refused, match="probabilities"):
        quantiles(Solo(), np.array([1.0]), [1.5])
    with pytest.raises(Refused, match="bits"):
        quantiles(Solo(), np.array([1.0]), [0.5], bits=8)
