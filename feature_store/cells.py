"""Cells of event files as columns of events: text to ids, instants and numbers.

A cell that cannot be read becomes null, for cleaning to count.  `check_times` and `check_values`
look at the first rows of a file, where a wrong unit or column shows at once, and name it.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import BadData

INSTANT = pa.timestamp("us", tz="UTC")
MICROSECONDS = {  # in one unit; "iso" is text
    "s": Decimal(10**6),
    "ms": Decimal(10**3),
    "us": Decimal(1),
    "ns": Decimal("0.001"),
    "day": Decimal(86_400 * 10**6),
}
_YEAR = 31_556_952 * 10**6  # mean Gregorian year in microseconds
_MOST = 2**62  # beyond this no calendar follows: such instants are unreadable
_WRONG = 0.9  # share of a file's first rows that must be unreadable before it is called a wrong unit


def identifiers(cells: pa.Array) -> pa.Array:
    """Ids as text; empty text and NaN are null, whole floats and decimals lose their .0.

    Such floats are integers that once met a null, such decimals the numbers of a database.
    """
    cells = _plain(cells)
    text = cells.cast(pa.string())
    if pa.types.is_floating(cells.type):
        text = _without_point(cells.cast(pa.float64()), text)
    if pa.types.is_decimal(cells.type):
        text = pc.replace_substring_regex(text, r"\.0+$", "")
    if len(text) and pc.min(pc.binary_length(text)).as_py() == 0:
        text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    return text


def of_one_line(ids: pa.Array) -> pa.Array:
    """`ids`, null where one has a line break: no catalogue could list it."""
    broken = pc.or_(pc.match_substring(ids, "\n"), pc.match_substring(ids, "\r"))
    return pc.if_else(broken, pa.scalar(None, pa.string()), ids) if pc.any(broken).as_py() else ids


def _without_point(numbers: pa.Array, text: pa.Array) -> pa.Array:
    """`text`, but whole numbers as integers, and NaN as null; each whatever else is beside it."""
    whole = pc.and_(pc.equal(pc.trunc(numbers), numbers), pc.less(pc.abs(numbers), 2.0**63))
    text = pc.if_else(whole, numbers.cast(pa.int64(), safe=False).cast(pa.string()), text)
    return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.string()), text)


def numbers(cells: pa.Array) -> pa.Array:
    """Numbers as float64; what is no number is null."""
    cells = _plain(cells)
    try:
        return cells.cast(pa.float64(), safe=False)
    except pa.ArrowInvalid:
        return _each(cells, _number, pa.float64())


def instants(cells: pa.Array, unit: str, timezone: str) -> pa.Array:
    """Times as timestamp[us, UTC]; `unit` and `timezone` are for cells that do not say it themselves."""
    cells = _plain(cells)
    if pa.types.is_null(cells.type):
        return cells.cast(INSTANT)
    if pa.types.is_date(cells.type):
        cells = cells.cast(pa.timestamp("ms"))
    if pa.types.is_timestamp(cells.type):
        return _in_utc(cells, timezone)
    if unit == "iso":
        return _from_iso(cells, timezone) if pa.types.is_string(cells.type) else pa.nulls(len(cells), INSTANT)
    return _from_count(cells, unit).cast(INSTANT)


def check_times(cells: pa.Array, times: pa.Array, unit: str, place: str) -> None:
    """Raise `BadData` when the first rows of a file show that their times are not in `unit`."""
    cells = _plain(cells)
    if len(cells) == cells.null_count or pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type):
        return
    found = cells.drop_null()[0].as_py()
    if times.null_count - cells.null_count > _WRONG * (len(cells) - cells.null_count):
        expected = (
            "ISO dates or times such as 2016-10-08" if unit == "iso" else f"a count of time unit {unit}"
        )
        raise BadData(f"{place}: expected {expected}; {_advice(cells, unit)}", repr(found))
    ticks = times.drop_null().cast(pa.int64()).to_numpy()
    years = 1970 + ticks / _YEAR
    outside = np.mean((years < 1970) | (years >= 2100)) > _WRONG
    advice = _advice(cells, unit)
    too_fine = unit in ("ms", "us", "ns") and np.mean(years < 1971) > _WRONG and "would" in advice
    if outside or too_fine:
        year = int(np.median(years))
        raise BadData(
            f"{place}: time_unit {unit}? found what would be year {year}, expected 1970 to 2099; {advice}",
            found,
        )


def check_values(cells: pa.Array, values: pa.Array, place: str) -> None:
    """Raise `BadData` when hardly any of a file's first values is a number."""
    given = len(cells) - cells.null_count
    if given and values.null_count - cells.null_count > _WRONG * given:
        raise BadData(f"{place}: expected a number", repr(cells.drop_null()[0].as_py()))


def _plain(cells: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    of_bytes = (
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return cells.cast(pa.string()) if any(each(cells.type) for each in of_bytes) else cells


def _in_utc(times: pa.Array, timezone: str) -> pa.Array:
    if times.type.tz is None:
        times = pc.assume_timezone(times, timezone, ambiguous="earliest", nonexistent="earliest")
    if times.type.unit != "us":  # a cast would wrap around where microseconds cannot count so far
        times = _from_count(times.cast(pa.int64()), times.type.unit)
    return times.cast(INSTANT)


def _from_iso(text: pa.Array, timezone: str) -> pa.Array:
    try:
        return _in_utc(text.cast(pa.timestamp("us")), timezone)
    except pa.ArrowInvalid:
        pass
    try:
        return text.cast(INSTANT)
    except pa.ArrowInvalid:
        local = _each(text, lambda cell: _iso(cell, zoned=False), pa.timestamp("us"))
        return pc.coalesce(
            _each(text, lambda cell: _iso(cell, zoned=True), INSTANT), _in_utc(local, timezone)
        )


def _from_count(cells: pa.Array, unit: str) -> pa.Array:
    """Microseconds since 1970 as int64."""
    if pa.types.is_floating(cells.type) or pa.types.is_decimal(cells.type):
        return _from_floats(cells, unit)
    try:
        counts = cells.cast(pa.int64())
    except pa.ArrowInvalid:  # a fraction, or no number at all, among the cells
        return _each(cells, lambda cell: _microseconds(cell, unit), pa.int64())
    ticks = counts.fill_null(0).to_numpy(zero_copy_only=False)
    scale = MICROSECONDS[unit]
    beyond = np.abs(ticks.astype(np.float64)) * float(scale) >= _MOST
    ticks = ticks // int(1 / scale) if scale < 1 else ticks * int(scale)
    return pa.array(ticks, mask=beyond | counts.is_null().to_numpy(zero_copy_only=False))


def _from_floats(cells: pa.Array, unit: str) -> pa.Array:
    ticks = np.rint(cells.cast(pa.float64()).to_numpy(zero_copy_only=False) * float(MICROSECONDS[unit]))
    readable = np.abs(ticks) < _MOST
    return pa.array(np.where(readable, ticks, 0).astype(np.int64), mask=~readable)


def _each(text: pa.Array, read: Callable[[str], Any], kind: pa.DataType) -> pa.Array:
    """The slow way, once for each distinct cell: taken only by batches that hold an odd cell."""
    coded = text.cast(pa.string()).dictionary_encode()
    values: list[Any] = []
    for cell in coded.dictionary.to_pylist():
        try:
            values.append(read(cell.strip()))
        except (ValueError, ArithmeticError):
            values.append(None)
    return pa.array(values, kind).take(coded.indices)


def _number(cell: str) -> float | None:
    return None if "_" in cell else float(cell)


def _microseconds(cell: str, unit: str) -> int | None:
    ticks = (Decimal(cell) * MICROSECONDS[unit]).to_integral_value(ROUND_FLOOR)
    return int(ticks) if ticks.is_finite() and abs(ticks) < _MOST else None


def _iso(cell: str, zoned: bool) -> datetime | None:
    """The time in `cell`, where it names its zone just if it should."""
    if cell[4:5] != "-":  # else 20161008 and stranger forms would pass as dates
        return None
    time = datetime.fromisoformat(cell)
    if zoned:
        return time.astimezone(UTC) if time.tzinfo else None
    return None if time.tzinfo else time


def _advice(cells: pa.Array, unit: str) -> str:
    """Which unit would put the median cell between 1990 and 2100."""
    count = pc.quantile(numbers(cells), 0.5)[0].as_py()
    for other in ("s", "ms", "us", "ns"):
        year = 1970 + (count or 0) * float(MICROSECONDS[other]) / _YEAR
        if other != unit and 1990 <= year < 2100:
            return f"time_unit {other} would give {int(year)}"
    return "is this the column of times?" if unit == "iso" else "try time_unit iso, or another column"
