"""Small files of events, for the tests of the feature store: put into a store, and read back as rows."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from feature_store.cleaning import CleaningRules
from feature_store.importing import ImportOutcome, import_events
from feature_store.partitions import Store
from feature_store.sources import Columns, Source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = Columns(user="u", item="i", time="t", value="v")
Row = tuple[str, str, str, float]
JANUARY = [("a", "x", "2016-01-05 10:00", 1.0), ("b", "x", "2016-01-05 09:00", 2.0)]
MARCH = [("a", "y", "2016-03-01 00:00", 3.0)]


def put(
    store: Store, folder: Path, rows: list[Row], name: str = "e.csv", rules: CleaningRules | None = None
) -> ImportOutcome:
    path = folder / name
    path.write_text("u,i,t,v\n" + "".join(f"{u},{i},{t},{v}\n" for u, i, t, v in rows))
    return import_events(store, "shop", Source(path=str(path), columns=COLUMNS), rules, now=NOW)


def rows_of(events: pa.Table) -> list[Row]:
    return [
        (event["user"], event["item"], event["event_time"].strftime("%Y-%m-%d %H:%M"), event["value"])
        for event in events.to_pylist()
    ]
