import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from federation.channel import Solo
from federation.errors import BadInput, Lost, Refused
from federation.fixed_point import FixedPoint
from federation.plan import RoundPlan
from federation.simulate import simulate

FORM = FixedPoint(terms=8)
values = arrays(float, 3, elements=st.floats(-1e9, 1e9))


def plan_of(names, **more):
    return RoundPlan(run="r", number=0, cohort=tuple(names), **{"deadline_seconds": 20, **more})


def saying(vector):
    return lambda channel: channel.sum("x", vector, FORM)


@settings(max_examples=40)
@given(st.dictionaries(st.text(min_size=1, max_size=4), values, min_size=2, max_size=6))
def test_masked_equals_unmasked_equals_the_sum_of_rounded_terms(vectors):
    parts = {name: saying(vector) for name, vector in vectors.items()}
    masked, plain = simulate(parts, plan_of(vectors)), simulate(parts, plan_of(vectors), masks=False)
    exact = sum(np.rint(vector * 2.0**24).astype(np.int64) for vector in vectors.values()) * 2.0**-24
    for name in vectors:
        np.testing.assert_array_equal(masked[name], exact)
        np.testing.assert_array_equal(plain[name], exact)


@settings(max_examples=20)
@given(st.lists(values, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_it_does_not_matter_who_says_what(vectors, random):
    names = [f"p{i}" for i in range(len(vectors))]
    straight = simulate({n: saying(v) for n, v in zip(names, vectors, strict=True)}, plan_of(names))
    random.shuffle(vectors)
    shuffled = simulate({n: saying(v) for n, v in zip(names, vectors, strict=True)}, plan_of(names))
    np.testing.assert_array_equal(straight["p0"], shuffled["p0"])


def test_the_worked_example_of_the_mission():
    vectors = ([0.15, 0.25, 0.35], [0.12, 0.24, 0.36], [0.14, 0.26, 0.34])
    form = FixedPoint(fraction_bits=50, terms=3)
    parts = {
        name: lambda c, v=v: c.sum("x", np.array(v), form) for name, v in zip("abc", vectors, strict=True)
    }
    totals = simulate(parts, plan_of("abc"))
    np.testing.assert_allclose(totals["a"] / 3, [0.41 / 3, 0.25, 0.35], rtol=0, atol=1e-15)


def test_one_participant_is_solo():
    vector = np.array([0.1, -2.7])
    expected = Solo().sum("x", vector, FORM)
    np.testing.assert_array_equal(simulate({"a": saying(vector)}, plan_of("a"), masks=False)["a"], expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_the_refused_one_is_named(bad):
    heard = []

    def listening(channel):
        try:
            channel.sum("x", np.ones(2), FORM)
        except Lost as error:
            heard.append(error.participants)
            raise

    with pytest.raises(Refused, match="c: sum 'x': value 1 is"):
        simulate({"a": listening, "b": listening, "c": saying(np.array([0, bad]))}, plan_of("abc"))
    assert [set(participants) for participants in heard] == [{"c"}, {"c"}]


def test_an_error_of_a_part_is_raised_as_it_is():
    with pytest.raises(ZeroDivisionError):
        simulate({"a": saying(np.ones(1)), "b": lambda _: 1 / 0, "c": saying(np.ones(1))}, plan_of("abc"))


def test_totals_are_kept_and_read():
    kept = {}

    def part(channel):
        channel.sum("x", np.ones(2), FORM)
        return channel.read("x")

    totals = simulate(
        {"a": part, "b": part},
        plan_of("ab"),
        on_opened=lambda name, form, total: kept.update({name: form.decode(total.words)}),
        read=lambda name: kept[name],
    )
    assert totals["a"].tolist() == [2.0, 2.0]


def test_refuses_parts_of_another_cohort():
    with pytest.raises(BadInput, match="cohort"):
        simulate({"a": saying(np.ones(1))}, plan_of("ab"))
