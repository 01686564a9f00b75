"""Cells of files as ids, numbers and moments."""

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.cells import identifiers, instants, numbers, of_one_line

FIRST = datetime.fromtimestamp(1381945744, UTC)


def test_ids_stay_text_and_gaps_become_null() -> None:
    assert identifiers(pa.array(["007", "", "NA", None])).to_pylist() == ["007", None, "NA", None]
    assert identifiers(pa.array([7.0, None])).to_pylist() == ["7", None]
    assert numbers(pa.array(["1e3", "x", " 5 ", "1_0", None])).to_pylist() == [1000.0, None, 5.0, None, None]


def test_numbers_as_ids_are_the_same_text_whatever_type_they_have() -> None:
    assert identifiers(pa.array([7.0, float("nan"), None])).to_pylist() == ["7", None, None]
    assert identifiers(pa.array([1e15, 7.5, 1e20])).to_pylist() == ["1000000000000000", "7.5", "1e+20"]
    assert identifiers(pa.array([7.0]).dictionary_encode()).to_pylist() == ["7"]
    amounts = pa.array([Decimal(7), Decimal("7.5"), None], pa.decimal128(38, 10))
    assert identifiers(amounts).to_pylist() == ["7", "7.5000000000", None]


def test_an_id_of_several_lines_is_none() -> None:
    ids = pa.array(["a\n", "b\rc", "d", None])
    assert of_one_line(ids).to_pylist() == [None, None, "d", None]
    assert of_one_line(ids[2:]).to_pylist() == ["d", None]


@pytest.mark.parametrize(
    ("cell", "unit", "expected"),
    [
        ("2016-10-08", "iso", datetime(2016, 10, 8, tzinfo=UTC)),
        ("2016-10-08 12:30:01.000005", "iso", datetime(2016, 10, 8, 12, 30, 1, 5, tzinfo=UTC)),
        ("2016-10-08T12:30:00+02:00", "iso", datetime(2016, 10, 8, 10, 30, tzinfo=UTC)),
        ("2016-10-08T12:30:00Z", "iso", datetime(2016, 10, 8, 12, 30, tzinfo=UTC)),
        ("2016-02-30", "iso", None),
        ("20161008", "iso", None),
        ("1381945744", "s", FIRST),
        ("1381945744.5", "s", FIRST.replace(microsecond=500_000)),
        ("1381945744000", "ms", FIRST),
        ("1381945744000000", "us", FIRST),
        ("1381945744000000999", "ns", FIRST),
        ("15994", "day", datetime(2013, 10, 16, tzinfo=UTC)),
        ("-1", "s", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("9" * 30, "s", None),
        ("1e999999", "s", None),
        ("soon", "s", None),
        (None, "s", None),
    ],
)
def test_times(cell: str | None, unit: str, expected: datetime | None) -> None:
    alone = instants(pa.array([cell], pa.string()), unit, "UTC")
    among_unreadable = instants(pa.array(["?", cell], pa.string()), unit, "UTC")
    assert alone.to_pylist() == [expected]
    assert among_unreadable.to_pylist() == [None, expected]


def test_texts_may_be_bytes() -> None:
    for kind in (pa.binary(), pa.large_binary()):
        assert identifiers(pa.array([b"7"], kind)).to_pylist() == ["7"]
        assert instants(pa.array([b"1381945744"], kind), "s", "UTC").to_pylist() == [FIRST]
        found = instants(pa.array([b"2016-10-08"], kind), "iso", "UTC")
        assert found.to_pylist() == [datetime(2016, 10, 8, tzinfo=UTC)]


def test_local_times_are_of_the_named_zone() -> None:
    gap = datetime(2016, 3, 27, 0, 59, 59, 999_999, tzinfo=UTC)  # no clock in Berlin showed 02:30
    for others in ([], ["?"], ["2016-07-01T10:00Z"]):
        found = instants(pa.array(["2016-07-01 12:00", "2016-03-27 02:30", *others]), "iso", "Europe/Berlin")
        assert found.to_pylist()[:2] == [datetime(2016, 7, 1, 10, tzinfo=UTC), gap]


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.date32()])
def test_an_instant_beyond_all_calendars_wraps_to_no_other(kind: pa.DataType) -> None:
    cells = pa.array([2**31 - 1 if kind == pa.date32() else 2**63 - 1, 0], kind)
    assert instants(cells, "iso", "UTC").to_pylist() == [None, datetime(1970, 1, 1, tzinfo=UTC)]


@given(st.lists(st.integers(-(2**40), 2**40)), st.sampled_from(["s", "ms", "us", "day"]))
def test_odd_cells_change_no_other(counts: list[int], unit: str) -> None:
    odd = instants(pa.array([*map(str, counts), "odd"], pa.string()), unit, "UTC")
    fast = instants(pa.array(list(map(str, counts)), pa.string()), unit, "UTC")
    assert odd.slice(0, len(counts)).cast(pa.int64()).equals(fast.cast(pa.int64()))
