import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parties import dealt, together

from federation.channel import Solo
from federation.errors import Refused
from federation.statistics import column_statistics

VALUES = st.floats(-1e100, 1e100) | st.integers(-5, 5).map(float) | st.just(math.nan)


def same(a, b):
    return all(
        np.array_equal(x, y, equal_nan=True) for x, y in zip(vars(a).values(), vars(b).values(), strict=True)
    )


@settings(max_examples=60)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=25), st.data())
def test_figures_are_exact_and_do_not_depend_on_who_holds_which_row(rows, data):
    rows = np.array(rows)
    pooled = column_statistics(Solo(), rows)
    parts = dealt(rows, data)
    for found in together(lambda rows, channel: column_statistics(channel, rows), parts):
        assert same(found, pooled)
    assert {figures.shape for figures in vars(pooled).values()} == {(2,)}
    for column in range(2):
        values = [Fraction(v) for v in rows[:, column] if not math.isnan(v)]
        assert pooled.count[column] == len(values)
        assert pooled.missing[column] == len(rows) - len(values)
        if values:
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / len(values)
            assert pooled.mean[column] == float(mean)
            assert pooled.variance[column] == pytest.approx(float(variance), rel=1e-12, abs=1e-300)


def test_variance_survives_a_mean_that_float64_cannot_hold():
    found = column_statistics(Solo(), np.array([[1e16], [1e16 + 2]]))
    assert found.variance[0] == 1.0


def test_standardised_columns_have_mean_0_and_variance_1():
    rows = np.random.default_rng(1).gamma(2.0, 3.0, (500, 3)) * np.array([1, 0.01, 1e6]) + np.array(
        [0, 100, -7]
    )
    rows[::7, 0] = np.nan
    scaled = column_statistics(Solo(), rows).standardisation.apply(rows)
    again = column_statistics(Solo(), scaled)
    assert np.allclose(again.mean, 0, atol=1e-12)
    assert np.allclose(again.variance, 1)
    assert np.array_equal(np.isnan(scaled), np.isnan(rows))


def test_constant_and_empty_columns_are_left_alone():
    rows = np.array([[4.0, np.nan], [4.0, np.nan]])
    found = column_statistics(Solo(), rows)
    assert np.isnan(found.mean[1])
    assert np.isnan(found.variance[1])
    assert np.array_equal(found.standardisation.apply(rows), [[0.0, np.nan]] * 2, equal_nan=True)
    assert found.standardisation.apply(np.array([[5.0, 5.0]])).tolist() == [[1.0, 5.0]]


@pytest.mark.parametrize(("value", "what"), [(np.inf, "infinite"), (-np.inf, "infinite"), (-1e200, "beyond")])
def test_infinite_and_huge_values_are_refused_by_name(value, what):
    rows = np.array([[1.0, 2.0], [3.0, value]])
    with pytest.raises(Refused, match=f"'price'.*row 1 is {what}"):
        column_statistics(Solo(), rows, ["age", "price"])
    with pytest.raises(Refused, match="column 1"):
        column_statistics(Solo(), rows)


@pytest.mark.parametrize(("rows", "names"), [(np.zeros(2), ()), (np.zeros((2, 2)), ["age"])])
def test_rows_of_another_shape_are_refused(rows, names):
    with pytest.raises(Refused, match=r"columns as \(n, d\), found shape \(2,"):
        column_statistics(Solo(), rows, names)
