"""Events in the store: where they lie, in which order they come, and how damage to them is told."""

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from event_rows import JANUARY, MARCH, NOW, put, rows_of

from feature_store.cleaning import CleaningReport
from feature_store.errors import BadData
from feature_store.importing import import_events
from feature_store.partitions import PART_SCHEMA, Store
from feature_store.schema import check_events
from feature_store.sources import Columns, Source


def test_events_lie_by_month_sorted_coded_and_private(store: Store, tmp_path: Path) -> None:
    outcome = put(store, tmp_path, [*MARCH, *JANUARY])
    assert outcome.report == CleaningReport(rows_read=3, kept=3)
    assert outcome.added_rows == 3
    assert store.organisations() == ["shop"]
    manifest = store.manifest("shop")
    assert (manifest.version, manifest.rows, manifest.report) == (outcome.version, 3, outcome.report)
    assert [part.month for part in manifest.parts] == ["2016-01", "2016-03"]
    part = manifest.parts[0]
    assert part.file == f"month=2016-01/part-0-{part.content_hash[:16]}.parquet"
    assert part.first_at == datetime(2016, 1, 5, 9, tzinfo=UTC)
    assert part.last_at == datetime(2016, 1, 5, 10, tzinfo=UTC)
    assert pq.read_metadata(store.folder("shop") / part.file).row_group(0).column(0).compression == "ZSTD"
    events = store.events("shop")
    assert events.schema.equals(PART_SCHEMA)
    assert rows_of(events) == [JANUARY[1], JANUARY[0], *MARCH]
    assert events["known_time"] == events["event_time"]
    assert events["sequence"].to_pylist() == [2, 1, 0]
    for path in store.root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    store.verify("shop")


def test_time_ranges_and_columns(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path, [*JANUARY, *MARCH])
    at = datetime(2016, 1, 5, 10, tzinfo=UTC)
    assert rows_of(store.events("shop", until=at)) == [JANUARY[1]]
    assert rows_of(store.events("shop", since=at)) == [JANUARY[0], *MARCH]
    assert rows_of(store.events("shop", since=at, until=datetime(2016, 1, 6))) == [JANUARY[0]]
    nothing = store.events("shop", ["value", "user"], until=datetime(2000, 1, 1, tzinfo=UTC))
    assert nothing.num_rows == 0
    assert nothing.column_names == ["value", "user"]
    with pytest.raises(BadData, match="columns: found \\['price'\\]"):
        store.events("shop", ["price"])


def test_events_without_times_keep_file_order(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "e.txt"
    path.write_text("2 9\n1 8\n1 7\n2 9\n")
    source = Source(path=str(path), separator=" ", header=False, columns=Columns(user=0, item=1))
    assert import_events(store, "shop", source).report == CleaningReport(rows_read=4, kept=3, duplicate=1)
    events = store.events("shop")
    assert events["item"].to_pylist() == ["9", "8", "7"]
    assert (
        events["event_time"].null_count == events["known_time"].null_count == events["value"].null_count == 3
    )
    assert [part.month for part in store.manifest("shop").parts] == ["none"]
    assert store.events("shop", since=NOW).num_rows == 0
    path.write_text("2 9\n3 7\n")
    assert import_events(store, "shop", source).report.duplicate == 1
    assert store.events("shop")["user"].to_pylist() == ["2", "1", "1", "3"]


def test_known_times_may_be_later(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("u,i,t,k\na,x,2016-01-05,2016-02-01\na,y,2016-01-04,\n")
    columns = Columns(user="u", item="i", time="t", known_time="k")
    import_events(store, "shop", Source(path=str(path), columns=columns))
    known = [time.strftime("%m-%d") for time in store.events("shop")["known_time"].to_pylist()]
    assert known == ["01-04", "02-01"]
    never = [datetime(9999, 12, 31)]
    events = pa.table({"u": ["a"], "i": ["z"], "t": [datetime(2016, 1, 6)], "k": never})
    pq.write_table(events, tmp_path / "e.parquet", use_deprecated_int96_timestamps=True)
    import_events(store, "spark", Source(path=str(tmp_path / "e.parquet"), columns=columns))
    assert store.events("spark")["known_time"].to_pylist() == [never[0].replace(tzinfo=UTC)]


def test_a_known_time_that_cannot_be_read_is_not_taken_for_known_at_once(
    store: Store, tmp_path: Path
) -> None:
    path, columns = tmp_path / "e.csv", Columns(user="u", item="i", time="t", known_time="k")
    path.write_text("u,i,t,k\na,x,2016-01-05,2016-02-01\na,y,2016-01-04,01/03/2016\na,z,2016-01-04,\n")
    report = import_events(store, "shop", Source(path=str(path), columns=columns)).report
    assert (report.kept, report.missing_time) == (2, 1)
    assert store.events("shop")["item"].to_pylist() == ["z", "x"]


def test_bad_names_and_missing_data_are_named(store: Store, tmp_path: Path) -> None:
    for name in ("../x", ".x", "", "a/b"):
        with pytest.raises(BadData, match="organisation: found"):
            store.manifest(name)
    with pytest.raises(BadData, match="found no events of 'shop', expected an import before"):
        store.events("shop")
    put(store, tmp_path, JANUARY)
    part = store.folder("shop") / store.manifest("shop").parts[0].file
    part.write_bytes(b"broken")
    with pytest.raises(BadData, match="expected content"):
        store.verify("shop")
    with pytest.raises(BadData, match="the part that the manifest names; restore it, or remove"):
        store.events("shop")
    manifest = store.folder("shop") / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"rows": 7}))
    with pytest.raises(BadData, match="version or rows do not follow from the parts") as found:
        store.manifest("shop")
    assert found.value.told == f"{manifest}: expected a manifest of this store"
    with pytest.raises(BadData, match=r"found no version '\.\./manifest', expected one of [0-9a-f]{64}$"):
        store.manifest("shop", "../manifest")


def test_the_schema_holds_what_is_written(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path, JANUARY)
    good = store.events("shop")
    check_events([good, good], "here")
    wrong = {
        "user": pa.array([None, "a"]).dictionary_encode().cast(PART_SCHEMA.field("user").type),
        "value": pa.array([np.inf, 1.0]),
        "sequence": pa.array([-1, 0]),
        "item": pa.array(["x", "y"]),
    }
    for name, column in wrong.items():
        with pytest.raises(BadData, match="here: "):
            check_events([good.set_column(good.column_names.index(name), name, column)], "here")
    with pytest.raises(BadData, match="here: found events out of order"):
        check_events([good.take([1, 0])], "here")


REAL = {
    "xmarket/jp_5core.txt": (4205, "iso", True, " ", ("userId", "itemId", "date", "rate")),
    "movielens-small/ratings.csv": (100_836, "s", True, ",", ("userId", "movieId", "timestamp", "rating")),
    "movietweetings/ratings.dat": (141_695, "s", False, "::", (0, 1, 3, 2)),
    "beauty/beauty.txt": (353_962, "iso", False, " ", (0, 1, None, None)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(store: Store, name: str) -> None:
    if "CHORUS_DATA" not in os.environ:
        pytest.skip("CHORUS_DATA names no folder of real data sets")
    kept, unit, header, separator, names = REAL[name]
    columns = dict(zip(("user", "item", "time", "value"), names, strict=True))
    path = os.path.join(os.environ["CHORUS_DATA"], name)
    source = Source(path=path, separator=separator, header=header, columns=columns, time_unit=unit)
    assert import_events(store, "shop", source).report.kept == kept == store.events("shop").num_rows
