from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.cadence import brings, fresh
from federation.durations import DAY


@pytest.mark.parametrize(
    ("own", "last", "now", "expected"),
    [
        (None, 5 * DAY, 5 * DAY + 1, True),
        (7 * DAY, None, 0, True),
        (7 * DAY, 0, 6 * DAY, False),
        (7 * DAY, 600, 7 * DAY, True),  # the import took ten minutes
        (7 * DAY, 0, 7 * DAY - 3_601, False),
        (3_600, 0, 3_420, True),  # a twentieth less
        (3_600, 0, 3_419, False),
        (7 * DAY, 5, 5, False),
        (7 * DAY, 9 * DAY, 2 * DAY, True),  # the clock has stepped back
    ],
)
def test_when_a_participant_brings_new_data(own, last, now, expected):
    assert brings(own, last, now) is expected


@given(st.integers(1, 20), st.integers(1, 30))
def test_it_brings_at_every_so_many_trainings(interval, own):
    """The trainings are walked through one by one, some of them late, as a participant lives them."""
    told, last = [], None
    for number in range(60):
        now = number * interval * DAY + 600 * (number * 7 % 5)
        if brings(own * DAY, last, now):
            told.append(number)
            last = now
    assert {after - before for before, after in pairwise(told)} == {-(-own // interval)}


def test_fresh_are_those_with_another_version():
    then = {"a": "1", "b": "1", "c": "1"}
    assert fresh({"a": "1", "b": "2", "c": "1", "d": "1"}, then) == ["b", "d"]
