"""The event files of a generated world: every shop in another format, with a few dirty rows."""

import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from feature_store.cells import INSTANT
from feature_store.cleaning import HOUR
from feature_store.replacing import replace
from feature_store.sources import Columns, Source

BOT_EVENTS = 300  # within an hour, of one user
_REPEATED, _TORN = 0.003, 0.002  # shares of rows that stand there twice, and that lack an id


class _Format(NamedTuple):
    suffix: str
    separator: str | None
    time_unit: Literal["iso", "s", "ms", "us"]
    columns: tuple[str, str, str, str]  # of user, item, value and time


_PLAIN = ("user", "item", "rating", "time")
_FORMATS = (
    _Format(".csv", None, "iso", _PLAIN),
    _Format(".tsv.gz", None, "s", ("customer", "product", "stars", "bought_at")),
    _Format(".parquet", None, "us", _PLAIN),
    _Format(".jsonl", None, "ms", ("userId", "itemId", "rating", "timestamp")),
    _Format(".csv.gz", ";", "iso", ("client", "article", "note", "date")),
    _Format(".csv", "|", "s", _PLAIN),
)


def sources(names: Sequence[str]) -> dict[str, Source]:
    """How to read each shop's events, by the order of the names; paths are relative to the world's folder."""
    return {name: _source(name, number) for number, name in enumerate(sorted(names))}


def write_events(folder: Path, name: str, number: int, events: pa.Table, rng: np.random.Generator) -> None:
    """Write the shop's `events` (columns user, item, value, time), and dirty rows, as `sources` says."""
    chosen = _FORMATS[number % len(_FORMATS)]
    dirty = _dirty(events, name, rng).select(["user", "item", "value", "time"])
    content = _content(_told(dirty, chosen.time_unit).rename_columns([*chosen.columns]), chosen)
    if chosen.suffix.endswith(".gz"):
        content = gzip.compress(content, 6, mtime=0)
    replace(folder / f"{name}{chosen.suffix}", content)


def write_truth(folder: Path, name: str, truth: pa.Table) -> None:
    """Write the shop's `truth` (columns user, items)."""
    sink = io.BytesIO()
    pq.write_table(truth, sink)
    replace(folder / f"truth-{name}.parquet", sink.getvalue())


def _source(name: str, number: int) -> Source:
    suffix, separator, unit, (user, item, value, time) = _FORMATS[number % len(_FORMATS)]
    columns = Columns(user=user, item=item, value=value, time=time)
    return Source(path=name + suffix, separator=separator, columns=columns, time_unit=unit)


def _dirty(events: pa.Table, name: str, rng: np.random.Generator) -> pa.Table:
    """`events` and exact repeats, rows without an id and a bot that has everything within an hour."""
    repeats = events.take(rng.integers(0, len(events), max(1, round(_REPEATED * len(events)))))
    torn = events.take(rng.integers(0, len(events), max(2, round(_TORN * len(events)))))
    half = len(torn) // 2
    no_user = _with(torn[:half], "user", pa.nulls(half, pa.string()))
    no_item = _with(torn[half:], "item", pa.nulls(len(torn) - half, pa.string()))
    bot = events.take(rng.integers(0, len(events), BOT_EVENTS))
    first = events["time"].cast(pa.int64())[len(events) // 2].as_py() // HOUR * HOUR
    moments = pa.array(first + np.sort(rng.integers(0, HOUR, BOT_EVENTS)) // 10**6 * 10**6).cast(INSTANT)
    bot = _with(_with(bot, "user", pa.array([f"{name}-bot"] * BOT_EVENTS)), "time", moments)
    return pa.concat_tables([events, repeats, no_user, no_item, bot])


def _with(events: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return events.set_column(events.schema.get_field_index(column), column, values)


def _told(events: pa.Table, unit: str) -> pa.Table:
    """`events` with times as text or as a count of `unit`; as instants for us."""
    instants = events["time"].cast(pa.int64()).to_numpy()
    if unit == "us":
        return events
    if unit == "iso":
        text = np.datetime_as_string(instants.view("M8[us]"), unit="s")
        return _with(events, "time", pa.array(text.tolist()))
    return _with(events, "time", pa.array(instants // {"s": 10**6, "ms": 10**3}[unit]))


def _content(events: pa.Table, chosen: _Format) -> bytes:
    sink = io.BytesIO()
    if chosen.suffix == ".parquet":
        pq.write_table(events, sink)
    elif chosen.suffix == ".jsonl":
        sink.write("".join(json.dumps(row) + "\n" for row in events.to_pylist()).encode())
    else:
        separator = chosen.separator or ("\t" if ".tsv" in chosen.suffix else ",")
        pacsv.write_csv(
            events,
            sink,
            pacsv.WriteOptions(delimiter=separator, quoting_style="none", quoting_header="none"),
        )
    return sink.getvalue()
