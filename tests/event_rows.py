"""Small files of events, for the tests of the feature store: written, read, put into a store."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from feature_store.cleaning import CleaningRules
from feature_store.errors import BadData
from feature_store.importing import ImportOutcome, import_events
from feature_store.partitions import Store
from feature_store.sources import EVENT_SCHEMA, Columns, Source, read_file

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = Columns(user="u", item="i", time="t", value="v")
IDS = Columns(user="u", item="i")
Row = tuple[str, str, str, float]
JANUARY = [("a", "x", "2016-01-05 10:00", 1.0), ("b", "x", "2016-01-05 09:00", 2.0)]
MARCH = [("a", "y", "2016-03-01 00:00", 3.0)]


def put(
    store: Store, folder: Path, rows: list[Row], name: str = "e.csv", rules: CleaningRules | None = None
) -> ImportOutcome:
    path = written(folder, name, "u,i,t,v\n" + "".join(f"{u},{i},{t},{v}\n" for u, i, t, v in rows))
    return import_events(store, "shop", Source(path=path, columns=COLUMNS), rules, now=NOW)


def rows_of(events: pa.Table) -> list[Row]:
    return [
        (event["user"], event["item"], event["event_time"].strftime("%Y-%m-%d %H:%M"), event["value"])
        for event in events.to_pylist()
    ]


def read_batches(source: Source) -> Iterator[pa.RecordBatch]:
    return (batch for path in source.files() for batch in read_file(source, path))


def table(source: Source) -> pa.Table:
    found = pa.Table.from_batches(read_batches(source))
    assert found.schema == EVENT_SCHEMA
    return found


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.lower().endswith(".gz") else text.encode())
    return str(path)


def bad(path: str, **settings: Any) -> str:
    with pytest.raises(BadData) as caught:
        table(Source(**{"path": path, "columns": COLUMNS, **settings}))
    return str(caught.value)
