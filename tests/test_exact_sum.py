import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import Refused
from federation.exact_sum import INTEGERS, LIMBS, exact, limbs, total

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LARGEST = np.finfo(np.float64).max


@given(st.lists(FLOATS.filter(lambda value: abs(value) < 1e300), max_size=60), st.data())
def test_sum_is_fsum_for_every_partition(values, data):
    owners = np.array([data.draw(st.integers(0, 3)) for _ in values], int)
    pooled = np.array(values, float)
    parts = [limbs(pooled[owners == owner]) for owner in range(4)]
    words = sum((INTEGERS.encode(part) for part in parts), np.zeros(LIMBS, np.uint64))
    assert total(INTEGERS.decode(words)) == math.fsum(values)


@given(st.lists(st.tuples(FLOATS, FLOATS, FLOATS), min_size=1, max_size=20))
def test_columns_are_summed_exactly(rows):
    table = np.array(rows)
    for column, digits in zip(table.T, limbs(table), strict=True):
        assert exact(digits) == sum(Fraction(float(value)) for value in column)
        assert np.array_equal(digits, limbs(column))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], 0.0),
        ([5e-324] * 3, 1.5e-323),
        ([1e16, 1.0, -1e16], 1.0),
        ([LARGEST, LARGEST, -LARGEST], LARGEST),
        ([-1.0, 2.0**-1074], -1.0),
    ],
)
def test_extremes(values, expected):
    assert total(limbs(np.array(values))) == expected


def test_many_chunks_agree_with_fsum():
    random = np.random.default_rng(0)
    values = random.normal(size=200_000) * 10.0 ** random.integers(-200, 200, 200_000)
    assert total(limbs(values)) == math.fsum(values)
    assert total(limbs(values[:150_000].reshape(-1, 3))[2]) == math.fsum(
        values[:150_000].reshape(-1, 3)[:, 2]
    )


def test_thousands_of_the_largest_participants_do_not_overflow():
    fullest = np.full(LIMBS, 2**32 - 1)
    fullest[-1] = -(2**31)
    for digits in (limbs(np.full(1000, LARGEST)), fullest):
        words = INTEGERS.encode(digits)
        opened = INTEGERS.decode(words * np.uint64(10_000))
        assert exact(opened) == 10_000 * exact(digits)


def test_the_last_digit_has_room_for_2_to_32_rows_of_the_largest():
    assert Fraction(LARGEST) * 2**32 < Fraction(1 << (32 * (LIMBS - 1) + 31), 1 << 1074)


def test_a_sum_beyond_float64_is_refused():
    with pytest.raises(Refused, match="beyond the range"):
        total(limbs(np.array([LARGEST, LARGEST])))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_strange_numbers_are_refused(value):
    with pytest.raises(Refused, match="finite"):
        limbs(np.array([1.0, value]))
