from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from federation.errors import Refused
from federation.fixed_point import BLOCK, FixedPoint

WIDTHS = (8, 16, 32, 64)


@st.composite
def forms(draw):
    width = draw(st.sampled_from(WIDTHS))
    return FixedPoint(
        width=width,
        fraction_bits=draw(st.integers(0, width)),
        terms=draw(st.integers(1, 100)),
        signed=draw(st.booleans()),
    )


def nearest_even(value, bits):
    """The oracle: exact rational arithmetic."""
    exact = Fraction(value) * 2**bits
    low = floor(exact)
    up = exact - low > Fraction(1, 2) or (exact - low == Fraction(1, 2) and low % 2)
    return low + int(up)


@given(st.data(), forms())
def test_sums_decode_to_the_sum_of_rounded_terms(data, form):
    least = -form.bound if form.signed else 0.0
    values = st.floats(least, form.bound, allow_subnormal=False).filter(lambda v: not 0 > v > -1e-300)
    if form.fraction_bits == 0:
        values = values.map(lambda v: float(int(v)))
    terms = data.draw(st.lists(values, min_size=1, max_size=form.terms))
    words = np.zeros(1, form.dtype)
    for term in terms:
        words = words + form.encode(np.array([term]))
    units = sum(nearest_even(term, form.fraction_bits) for term in terms)
    expected = float(units) * 2.0**-form.fraction_bits if form.fraction_bits else units
    assert form.decode(words)[0] == expected


@given(forms())
def test_as_many_terms_as_promised_never_overflow(form):
    largest = form.encode(np.array([form.bound]))
    total = form.decode(np.array([int(largest[0]) * form.terms], form.dtype))
    assert total[0] == pytest.approx(form.bound * form.terms, rel=1e-12)
    with pytest.raises(Refused, match="outside"):
        form.encode(np.array([form.bound * 1.01 + 2.0 ** (1 - form.fraction_bits)]))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["i1", "u1", "i4", "i8", "u8", "f2", "f4", "f8", ">f8", "?"])
def test_integers_of_any_type_pass_unchanged(width, kind):
    form = FixedPoint(width=width, fraction_bits=0, terms=2)
    values = np.array([0, 1, 1, 0]).astype(kind)
    assert form.encode(values).dtype == np.dtype(f"u{width // 8}")
    np.testing.assert_array_equal(form.decode(form.encode(values)), values.astype(int))


def test_whole_unsigned_words_pass():
    form = FixedPoint(width=64, fraction_bits=0, terms=1, signed=False)
    words = np.array([0, 2**63, 2**64 - 1], np.uint64)
    np.testing.assert_array_equal(form.encode(words), words)
    assert form.decode(words).dtype == np.uint64


@given(st.sampled_from(WIDTHS), st.booleans(), st.data())
def test_where_the_sum_is_bounded_terms_may_wrap(width, signed, data):
    form = FixedPoint(width=width, fraction_bits=0, terms=None, signed=signed)
    low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if signed else (0, 2**width - 1)
    terms = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=9))
    total = data.draw(st.integers(low, high))
    last = (total - sum(terms) - low) % 2**width + low
    kind = f"{'i' if signed else 'u'}{width // 8}"
    words = [form.encode(np.array([term], kind)) for term in (*terms, last)]
    assert form.carries(1000)
    assert int(form.decode(np.add.reduce(words, dtype=form.dtype))[0]) == total


def test_small_floats_are_scaled_as_large_ones():
    form = FixedPoint(fraction_bits=24, terms=3)
    np.testing.assert_array_equal(form.decode(form.encode(np.array([1000.5], np.float16))), [1000.5])


def test_integers_get_a_fraction_too():
    form = FixedPoint(width=32, fraction_bits=8, terms=1)
    np.testing.assert_array_equal(form.decode(form.encode(np.array([-3, 7]))), [-3.0, 7.0])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([np.nan], "NaN"),
        ([-np.inf], "infinite"),
        ([1e30], "outside"),
        ([[1.0]], "one dimension"),
        (1.0, "one dimension"),
        (["1"], "real numbers"),
        ([1j], "real numbers"),
    ],
)
def test_refuses_what_it_cannot_carry(values, said):
    with pytest.raises(Refused, match=said):
        FixedPoint(terms=3).encode(np.array(values))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e30])
def test_says_where_but_not_what(bad):
    vector = np.ones(3 * BLOCK)
    vector[2 * BLOCK + 5] = bad
    with pytest.raises(Refused, match=f"value {2 * BLOCK + 5} is") as caught:
        FixedPoint(terms=3).encode(vector)
    assert "1e+30" not in str(caught.value)


def test_refuses_fractions_and_negatives_where_there_is_no_room_for_them():
    with pytest.raises(Refused, match="value 1 is not an integer"):
        FixedPoint(fraction_bits=0, terms=2).encode(np.array([1.0, 1.5]))
    for vector in (np.array([3, -1]), np.array([3.0, -1.0])):
        with pytest.raises(Refused, match=r"value 1 is outside \[0"):
            FixedPoint(fraction_bits=0, terms=2, signed=False).encode(vector)


def test_a_form_without_room_is_refused():
    with pytest.raises(ValidationError, match="too few for 200 terms"):
        FixedPoint(width=8, terms=200)


def test_decode_refuses_other_words():
    with pytest.raises(Refused, match="uint64"):
        FixedPoint(width=32, terms=2).decode(np.zeros(2, np.uint64))
