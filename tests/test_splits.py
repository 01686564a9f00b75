from datetime import UTC, date, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from feature_store.errors import BadData
from feature_store.splits import (
    TEST,
    TRAIN,
    VALIDATION,
    GivenSplit,
    LeaveLastOut,
    Split,
    TemporalSplit,
    parts,
    queries,
)

EVENTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(-3, 9)), max_size=40)
PARTED = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 2)), max_size=40)


def column(rows, place, dtype=np.int64):
    return np.array([row[place] for row in rows], dtype)


@given(rows=EVENTS, data=st.data())
def test_last_events_are_withheld(rows, data):
    sequence = np.array(data.draw(st.permutations(range(len(rows)))), np.int64)
    users, times = column(rows, 0, np.int32), column(rows, 2)
    last, given_part = (parts(users, times, sequence, split) for split in (LeaveLastOut(), GivenSplit()))
    for user in range(5):
        mine = sorted(np.flatnonzero(users == user), key=lambda row: (times[row], sequence[row]))
        ends = [VALIDATION, TEST] if len(mine) >= 3 else []
        assert [last[row] for row in mine] == [TRAIN] * (len(mine) - len(ends)) + ends
        ends = [VALIDATION] if len(mine) >= 2 else []
        assert [given_part[row] for row in mine] == [TRAIN] * (len(mine) - len(ends)) + ends


def test_without_times_the_sequence_decides():
    assert parts(np.zeros(3, int), None, np.array([2, 0, 1]), LeaveLastOut()).tolist() == [2, 0, 1]


@given(rows=EVENTS)
def test_cuts_part_in_time(rows):
    found = parts(column(rows, 0), column(rows, 2), np.arange(len(rows)), TemporalSplit(), (2, 5))
    assert found.tolist() == [0 if time < 2 else 1 if time < 5 else 2 for _, _, time in rows]


def test_a_temporal_split_needs_times_and_cuts():
    with pytest.raises(BadData, match="temporal"):
        parts(np.zeros(1, int), None, np.zeros(1, np.int64), TemporalSplit(), (2, 5))
    with pytest.raises(BadData, match=r"cuts \(\)"):
        parts(np.zeros(1, int), np.zeros(1, np.int64), np.zeros(1, np.int64), TemporalSplit())


@settings(max_examples=200)
@given(rows=PARTED, upto=st.sampled_from([VALIDATION, TEST]))
def test_queries_equal_a_slow_oracle(rows, upto):
    found = queries(column(rows, 0, np.int32), column(rows, 1, np.int32), column(rows, 2, np.int8), upto)
    expected = []
    for user in range(5):
        seen = {item for other, item, part in rows if other == user and part < upto}
        relevant = {item for other, item, part in rows if other == user and part == upto} - seen
        if seen and relevant:
            expected.append((user, sorted(seen), sorted(relevant)))
    assert found.users.tolist() == [user for user, _, _ in expected]
    assert split_up(found.seen_starts, found.seen_items) == [seen for _, seen, _ in expected]
    assert split_up(found.relevant_starts, found.relevant_items) == [each for _, _, each in expected]


def split_up(starts, items):
    return [items[low:high].tolist() for low, high in pairwise(starts)]


def test_the_kind_chooses_the_split():
    read = TypeAdapter(Split).validate_python
    assert read({"kind": "leave-last-out"}) == LeaveLastOut()
    assert read({"kind": "given"}) == GivenSplit()
    cuts = read({"kind": "temporal", "cuts": [date(2018, 6, 29), "2019-02-24T02:00:00+02:00"]}).cuts
    assert cuts == (datetime(2018, 6, 29, tzinfo=UTC), datetime(2019, 2, 24, tzinfo=UTC))
    assert cuts[1].tzinfo is UTC


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "random"},
        {"kind": "temporal", "cuts": ["2019-01-01", "2018-01-01"]},
        {"kind": "temporal", "validation": 0.9, "test": 0.9},
        {"kind": "temporal", "test": 1.0},
        {"kind": "given", "share": 1},
    ],
)
def test_wrong_splits_are_refused(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(Split).validate_python(wrong)
