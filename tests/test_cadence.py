from hypothesis import given
from hypothesis import strategies as st

from federation.cadence import brings, compose

DAY = 86_400.0
OWN = st.dictionaries(
    st.sampled_from("abcdef"), st.none() | st.integers(1, 30).map(lambda days: days * DAY), min_size=1
)


def test_a_slow_participant_brings_new_data_at_every_so_many_trainings():
    found = compose(2 * DAY, {"a": None, "b": DAY, "c": 2 * DAY, "d": 5 * DAY}, fresh=3)
    assert found.training == 2 * DAY
    assert found.participants == {"a": 2 * DAY, "b": 2 * DAY, "c": 2 * DAY, "d": 6 * DAY}


def test_the_consortium_waits_for_as_many_as_a_sum_may_be_opened_of():
    found = compose(DAY, {"a": None, "b": 3 * DAY, "c": 4 * DAY, "d": 9 * DAY}, fresh=3)
    assert found.training == 4 * DAY
    assert found.participants == {"a": 4 * DAY, "b": 4 * DAY, "c": 4 * DAY, "d": 12 * DAY}


@given(st.integers(1, 20), OWN, st.integers(1, 6))
def test_at_every_training_enough_bring_something_new(days, own, fresh):
    """The trainings are walked through one by one, as participants live them."""
    cadences, last = compose(days * DAY, own, fresh), dict.fromkeys(own)
    assert cadences.training >= days * DAY
    for number in range(40):
        now = number * cadences.training
        bringing = [name for name in own if brings(own[name], last[name], now)]
        assert len(bringing) >= min(fresh, len(own))
        for name in bringing:
            if last[name] is not None:
                assert now - last[name] == cadences.participants[name]
            last[name] = now
