"""What a participant weighs by how near its changes were to everybody's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommenders.attention import Network
from recommenders.contribution import angle, weight
from recommenders.exchange import ExchangeConfig

ANGLES = st.lists(st.floats(0, math.pi), min_size=1, max_size=4)


def network(*numbers):
    return Network(np.array(numbers[:1], np.float32), np.array([numbers[1:]], np.float32))


@pytest.mark.parametrize(
    ("change", "mean", "expected"),
    [
        ((1, 2, 3), (2, 4, 6), 0),
        ((1, 2, 3), (-1, -2, -3), math.pi),
        ((1, 0, 0), (0, 0, 4), math.pi / 2),
        ((1, 0, 0), (1, 1, 0), math.pi / 4),
        ((0, 0, 0), (1, 1, 0), math.pi / 2),  # of one item, say, that nobody has had since
    ],
)
def test_an_angle_is_that_of_all_numbers_together(change, mean, expected):
    assert angle(network(*change), network(*mean)) == pytest.approx(expected, abs=1e-7)


@given(ANGLES, st.integers(0, 9))
def test_events_weigh_by_gompertz_of_the_mean_angle(angles, events):
    theta = sum(angles) / len(angles)
    expected = 1024 * math.e ** (5 - 5 * math.e ** -(math.e ** (5 - 5 * theta)))
    assert weight(events, angles) == pytest.approx(expected * events, rel=1e-3)


@given(ANGLES, ANGLES)
def test_who_is_nearer_to_the_others_weighs_more(one, other):
    nearer, further = sorted((one, other), key=np.mean)
    assert weight(3, nearer) >= weight(3, further) >= 3 * 1024


def test_at_first_all_weigh_by_their_events():
    assert weight(6, []) == 2 * weight(3, []) > 0


def test_contributions_need_all_in_each_sum():
    with pytest.raises(ValueError, match=r"weighting: found contribution with together 0\.5, expected toget"):
        ExchangeConfig(weighting="contribution", together=0.5)
