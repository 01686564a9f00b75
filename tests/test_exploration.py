"""A linear bandit: its statistics are exact sums, its estimates those of plain ridge regression."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from federation.plan import RoundPlan
from federation.simulate import simulate
from recommenders.exploration import (
    FEATURES,
    FORM,
    ExploreConfig,
    contexts,
    places,
    policy,
    statistics,
    worth,
)

SIZE = len(FEATURES)
UPPER = np.triu_indices(SIZE)
NOBODY = np.random.default_rng(0)


def impressions(count, seed=0):
    """Contexts of `count` items that were shown, and their rewards."""
    rng = np.random.default_rng(seed)
    shown = rng.integers(0, 257, (count, SIZE)) / 256
    shown[:, 0] = 1
    return shown, rng.random(count) < shown[:, 1] / 2


@st.composite
def dealt(draw):
    """Impressions, and to which of several participants each belongs."""
    cells = draw(
        st.integers(0, 60).flatmap(lambda n: arrays(np.int64, (n, SIZE), elements=st.integers(0, 256)))
    )
    rewards = draw(arrays(bool, len(cells)))
    return cells, rewards, draw(arrays(np.int64, len(cells), elements=st.integers(0, 4)))


@settings(max_examples=60)
@given(dealt())
def test_the_consortium_s_policy_is_that_of_pooled_impressions_to_the_last_bit(case):
    cells, rewards, owners = case
    names = "abcde"

    def part(place, channel):
        mine = owners == place
        return channel.sum("exploration", statistics(cells[mine] / 256, rewards[mine]), FORM)

    plan = RoundPlan(run="r", number=0, cohort=tuple(names), deadline_seconds=20)
    opened = simulate({name: partial(part, place) for place, name in enumerate(names)}, plan)["c"]
    np.testing.assert_array_equal(opened, statistics(cells / 256, rewards))
    for ours, pooled in zip(policy(opened), policy(statistics(cells / 256, rewards)), strict=True):
        np.testing.assert_array_equal(ours, pooled)
    whole = [sum(int(row[i]) * int(row[j]) for row in cells) for i, j in zip(*UPPER, strict=True)]
    whole += [
        256 * sum(int(row[i]) for row, hit in zip(cells, rewards, strict=True) if hit) for i in range(SIZE)
    ]
    assert [each * 2**16 for each in opened.tolist()] == whole


def test_what_is_expected_is_ridge_regression():
    """In closed form, and as least squares with a row of the prior for each coefficient."""
    shown, rewards = impressions(400)
    known = policy(statistics(shown, rewards))
    theta = np.linalg.inv(shown.T @ shown + np.eye(SIZE)) @ (shown.T @ rewards)
    rows, targets = np.vstack([shown, np.eye(SIZE)]), np.concatenate([rewards, np.zeros(SIZE)])
    offered, _ = impressions(50, seed=1)
    found = worth(known, offered, ExploreConfig(policy="linucb", boldness=0), NOBODY)
    np.testing.assert_allclose(found, offered @ theta, rtol=1e-10)
    np.testing.assert_allclose(found, offered @ np.linalg.lstsq(rows, targets)[0], rtol=1e-10)


def test_an_upper_bound_is_as_far_above_as_the_context_is_unknown():
    shown, rewards = impressions(400)
    inverse = np.linalg.inv(shown.T @ shown + np.eye(SIZE))
    offered, _ = impressions(50, seed=1)
    expected = [x @ inverse @ (shown.T @ rewards) + 0.7 * math.sqrt(x @ inverse @ x) for x in offered]
    config = ExploreConfig(policy="linucb", boldness=0.7)
    found = worth(policy(statistics(shown, rewards)), offered, config, NOBODY)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_theta_is_drawn_from_its_gaussian():
    """Offered the unit vectors, a draw is theta itself."""
    shown, rewards = impressions(400)
    known, rng = policy(statistics(shown, rewards)), np.random.default_rng(2)
    config = ExploreConfig(policy="thompson", boldness=0.5)
    drawn = np.array([worth(known, np.eye(SIZE), config, rng) for _ in range(20_000)])
    inverse = np.linalg.inv(shown.T @ shown + np.eye(SIZE))
    spread = 0.5 * np.sqrt(np.diag(inverse))
    assert (
        np.abs(drawn.mean(axis=0) - inverse @ (shown.T @ rewards)) < 4.5 * spread / math.sqrt(20_000)
    ).all()
    whitened = np.cov(drawn.T) / np.outer(spread, spread)
    np.testing.assert_allclose(whitened, 0.25 * inverse / np.outer(spread, spread), atol=0.05)


def test_nothing_is_known_before_the_first_sum():
    assert np.array_equal(policy(None).precision, np.eye(SIZE))
    assert not policy(None).pull.any()


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 12), st.integers(0, 12))
def test_the_first_places_are_the_model_s_and_the_last_the_most_worth(worths, top, tried):
    found = places(np.array(worths, float), top, tried).tolist()
    kept = max(0, min(top, len(worths)) - tried)
    rest = sorted(range(kept, len(worths)), key=lambda place: (-worths[place], place))
    assert found == [*range(kept), *rest][:top]


@given(st.data())
def test_features_are_what_they_are_called(data):
    count = data.draw(st.integers(0, 12))
    own, others, recent = (
        data.draw(arrays(float, count, elements=st.floats(-1, 1e6, width=32))) for _ in range(3)
    )
    ages, events = (
        data.draw(arrays(float, count, elements=st.floats(0, 4000))),
        data.draw(st.integers(0, 5000)),
    )

    def share(counts, place):
        return math.log1p(max(counts[place], 0)) / max(math.log1p(max(0, *counts)), 1.0)

    found = contexts(own, others, recent, ages, events)
    assert found.shape == (count, SIZE)
    assert np.array_equal(found * 256, np.rint(found * 256))
    for place in range(count):
        active = min(1.0, math.log(1 + events) / math.log(1001))
        expected = [1, 1 / math.log2(place + 2), *(share(counts, place) for counts in (own, others, recent))]
        expected += [0.5 ** (ages[place] / 30), active]
        np.testing.assert_allclose(found[place], expected, atol=0.5 / 256 + 1e-9)


def test_a_participant_may_add_as_many_impressions_as_it_says():
    most = np.full(SIZE * (SIZE + 1) // 2 + SIZE, 2.0**28 - 1)
    assert np.array_equal(FORM.decode(FORM.encode(most)), most)


def test_what_is_dropped_before_its_window_has_passed_is_refused():
    with pytest.raises(ValidationError, match="keep_days: found 7, expected more than window_days, 14"):
        ExploreConfig(window_days=14, keep_days=7)
