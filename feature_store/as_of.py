"""As-of join of tables: for each asked row the last event of its key that was known at its moment.

Exactly one row comes out for each row asked, in the asked order; see `history` for the two clocks and
for which event is last.
"""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import BadData
from feature_store.history import History, Ints, Times


def as_of_join(
    asked: pa.Table,
    events: pa.Table,
    key: str,
    columns: Sequence[str] = ("event_time", "value"),
    at: str = "at",
    max_age: timedelta | None = None,
    strictly_before: bool = False,
) -> pa.Table:
    """`asked` with `columns` of the last event of its `key` known at its moment `at`, in the asked order.

    Null where there is none, where it is older than `max_age`, or where key or moment is null.
    `strictly_before` leaves out what happened or became known at the moment itself.  Events are as the
    store gives them; those without a time are never found.  Raises `BadData` for a column that is missing
    or that both tables have.
    """
    _require(asked, (key, at), "asked rows")
    _require(events, (key, "event_time", "known_time", "sequence", *columns), "events")
    if twice := set(columns) & set(asked.column_names):
        raise BadData(f"asked rows: found column {min(twice)!r}, which the join adds; expected another name")
    events = events.filter(pc.and_(pc.is_valid(events["event_time"]), pc.is_valid(events[key])))
    names = pc.unique(events[key].cast(pa.string()))
    moments = _microseconds(asked[at]) - int(strictly_before)
    codes = np.where(pc.is_valid(asked[at]).to_numpy(), _codes(asked[key], names), -1)
    history = History(_codes(events[key], names), len(names), times_of(events))
    age = None if max_age is None else max_age // timedelta(microseconds=1) - int(strictly_before)
    rows = history.ask(codes, moments).newest(age)
    found = pa.array(rows, mask=rows < 0)
    for name in columns:
        asked = asked.append_column(name, events[name].take(found))
    return asked


def times_of(events: pa.Table) -> Times:
    """The times of events of the store; what has no known_time was known at once."""
    event = _microseconds(events["event_time"])
    known = np.where(pc.is_valid(events["known_time"]).to_numpy(), _microseconds(events["known_time"]), event)
    return Times(event, known, events["sequence"].to_numpy())


def _microseconds(times: pa.ChunkedArray) -> Ints:
    zone = getattr(times.type, "tz", None)
    return np.asarray(times.cast(pa.timestamp("us", zone)).cast(pa.int64()).fill_null(0))


def _codes(names: pa.ChunkedArray, known: pa.Array) -> Ints:
    found = pc.index_in(names.cast(pa.string()), value_set=known, skip_nulls=True).fill_null(-1)
    return np.asarray(found, np.int64)


def _require(table: pa.Table, columns: Sequence[str], what: str) -> None:
    if missing := [name for name in columns if name not in table.column_names]:
        raise BadData(f"{what}: found columns {table.column_names}, expected also {missing}")
