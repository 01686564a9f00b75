"""What a participant weighs by how near its changes were to everybody's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommenders.attention import Network
from recommenders.contribution import angle, weighed
from recommenders.exchange import ExchangeConfig

COUNTS = np.array([3, 0, 2, 5])
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


@given(ANGLES)
def test_events_weigh_by_gompertz_of_the_mean_angle(angles):
    theta = sum(angles) / len(angles)
    expected = 1024 * math.e ** (5 - 5 * math.e ** -(math.e ** (5 - 5 * theta)))
    assert weighed(COUNTS, angles).tolist() == pytest.approx(expected * COUNTS, rel=1e-3)


@given(ANGLES, ANGLES)
def test_who_is_nearer_to_the_others_weighs_more(one, other):
    nearer, further = sorted((one, other), key=np.mean)
    assert (weighed(COUNTS, nearer) >= weighed(COUNTS, further)).all()
    assert (weighed(COUNTS, further) >= 1024 * COUNTS).all()


def test_at_first_all_weigh_by_their_events():
    assert weighed(COUNTS, []).tolist() == (weighed(COUNTS, [])[0] // 3 * COUNTS).tolist()


def test_contributions_need_all_in_each_sum():
    with pytest.raises(ValueError, match=r"weighting: found contribution with together 0\.5, expected toget"):
        ExchangeConfig(weighting="contribution", together=0.5)
