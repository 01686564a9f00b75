import json
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from event_rows import COLUMNS, IDS, bad, table, written
from pydantic import ValidationError

from feature_store.errors import BadData
from feature_store.sources import Columns, Source
from federation.messages import to_message

NOBODY = 65534
ROWS = [("a", "007", 1381945744, 4.5), ("b", "x y", 1381945745, 1.0), ("a", "é", 1381945744, -2.0)]
TIMES = [datetime.fromtimestamp(row[2], UTC) for row in ROWS]


def lines(separator: str, header: bool) -> str:
    rows = [("u", "i", "t", "v"), *ROWS] if header else ROWS
    return "".join(separator.join(str(cell) for cell in row) + "\n" for row in rows)


def json_lines() -> str:
    return "".join(json.dumps(dict(zip("uitv", row, strict=True)) | {"more": [1]}) + "\n\n" for row in ROWS)


@pytest.mark.parametrize(
    ("name", "text", "settings"),
    [
        ("e.csv", lines(",", True), {}),
        ("e.csv.gz", lines(",", True), {}),
        ("E.CSV.GZ", lines(",", True), {}),
        ("e.csv", "\ufeff" + lines(",", True).replace("\n", "\r\n"), {}),
        ("e.tsv", lines("\t", True), {}),
        ("e.tsv.gz", lines("\t", True), {"format": "tsv"}),
        ("e.dat", lines("::", False), {"separator": "::", "header": False}),
        ("e.dat.gz", lines("::", True), {"separator": "::"}),
        ("e.txt", lines("|", True), {"separator": "|"}),
        ("e.jsonl", json_lines(), {}),
        ("e.ndjson.gz", json_lines(), {}),
    ],
)
def test_every_format_gives_the_same_events(
    tmp_path: Path, name: str, text: str, settings: dict[str, Any]
) -> None:
    columns = COLUMNS if settings.get("header", True) else Columns(user=0, item=1, time=2, value=3)
    path = written(tmp_path, name, text)
    found = table(Source(path=path, columns=columns, time_unit="s", **settings))
    assert found["user"].to_pylist() == [row[0] for row in ROWS]
    assert found["item"].to_pylist() == [row[1] for row in ROWS]
    assert found["time"].to_pylist() == TIMES
    assert found["value"].to_pylist() == [row[3] for row in ROWS]
    assert found["known_time"].null_count == len(ROWS)


def test_a_gzipped_file_is_unpacked_whatever_its_name(tmp_path: Path) -> None:
    path = Path(written(tmp_path, "e.csv.gz", lines(",", True))).rename(tmp_path / "e.csv")
    assert table(Source(path=str(path), columns=COLUMNS, time_unit="s")).num_rows == len(ROWS)


@pytest.mark.parametrize(
    "kinds",
    [
        (pa.string(), pa.int64(), pa.float64()),
        (pa.dictionary(pa.int32(), pa.string()), pa.timestamp("ns"), pa.float32()),
        (pa.large_string(), pa.timestamp("s", tz="Europe/Berlin"), pa.int8()),
        (pa.string_view(), pa.string(), pa.decimal128(5, 2)),
    ],
)
def test_parquet_of_any_type(tmp_path: Path, kinds: tuple[pa.DataType, ...]) -> None:
    seconds = pa.array([row[2] for row in ROWS])
    times = seconds.cast(pa.timestamp("s")).cast(kinds[1]) if pa.types.is_timestamp(kinds[1]) else seconds
    values = pa.array([4.0, 1.0, -2.0]).cast(kinds[2])
    columns = {
        "u": pa.array([row[0] for row in ROWS]).cast(kinds[0]),
        "i": ["7", "8", "9"],
        "t": times,
        "v": values,
    }
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    found = table(Source(path=str(tmp_path / "e.parquet"), columns=COLUMNS, time_unit="s"))
    assert found["user"].to_pylist() == ["a", "b", "a"]
    assert found["time"].to_pylist() == TIMES
    assert found["value"].to_pylist() == [4.0, 1.0, -2.0]


def test_patterns_read_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("e-2.csv", "e-1.csv"):
        written(tmp_path, name, f"u,i\n{name},x\n")
    found = table(Source(path=str(tmp_path / "e-*.csv"), columns=Columns(user="u", item=1)))
    assert found["user"].to_pylist() == ["e-1.csv", "e-2.csv"]
    assert found["time"].null_count == 2


def test_patterns_reach_into_folders_and_miss_no_link(tmp_path: Path) -> None:
    (tmp_path / "year" / "month").mkdir(parents=True)
    for name in ("top.csv", "year/middle.csv", "year/month/deep.csv"):
        written(tmp_path, name, f"u,i\n{name},x\n")
    everywhere = str(tmp_path / "**" / "*.csv")
    assert table(Source(path=everywhere, columns=IDS)).num_rows == 3
    assert "month: found a folder; expected a file or a pattern" in bad(
        str(tmp_path / "year" / "month"), columns=IDS
    )
    (tmp_path / "year" / "moved.csv").symlink_to(tmp_path / "nowhere.csv")
    assert "moved.csv: after row 0: expected readable csv; found [Errno 2]" in bad(everywhere, columns=IDS)


@pytest.fixture
def plain_users() -> Iterator[Path]:
    """A folder of a user that is not root, who may look into every folder, and that user at work."""
    with tempfile.TemporaryDirectory() as folder:
        if root := os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        yield Path(folder)
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("pattern", ["day=*/e.csv", "**/*.csv"])
def test_a_folder_that_a_pattern_may_not_look_into_is_told(plain_users: Path, pattern: str) -> None:
    for day in "12":
        (plain_users / f"day={day}").mkdir()
        written(plain_users, f"day={day}/e.csv", f"u,i\n{day},x\n")
    for mode in (0o000, 0o300, 0o600):
        (plain_users / "day=2").chmod(mode)
        told = bad(str(plain_users / pattern), columns=IDS)
        assert "day=2: expected a folder that can be read, found: Permission denied" in told
    (plain_users / "day=2").chmod(0o700)
    assert table(Source(path=str(plain_users / pattern), columns=IDS)).num_rows == 2


def test_wrong_units_are_named(tmp_path: Path) -> None:
    def text(time: object) -> str:
        return written(tmp_path, "e.csv", f"u,i,t,v\na,x,{time},1\n")

    found = bad(text(1381945744000), time_unit="s")
    assert "e.csv, from row 1, column 't': time_unit s? found what would be year 45" in found
    assert found.endswith("found 1381945744000")
    assert "expected 1970 to 2099; time_unit ms would give 2013" in found
    assert "time_unit s would give 2013" in bad(text(1381945744), time_unit="ms")
    assert "expected ISO dates or times such as 2016-10-08; time_unit s would give 2013" in bad(
        text(1381945744)
    )
    found = bad(text("2016-10-08"), time_unit="s")
    assert "expected a count of time unit s; try time_unit iso" in found
    assert found.endswith("found '2016-10-08'")
    assert "column 'v': expected a number; found 'x'" in bad(
        written(tmp_path, "v.csv", "u,i,t,v\na,x,2016-10-08,x\n")
    )


def test_other_bad_input_is_named(tmp_path: Path) -> None:
    good = written(tmp_path, "e.csv", "u,i,t,v\na,x,2016-10-08,1\n")
    assert "no such file" in bad(str(tmp_path / "none.csv"))
    assert "line 2: found 1 cells, expected 4" in bad(written(tmp_path, "t.csv", "u,i,t,v\na\n"))
    assert "found suffix '.txt'" in bad(written(tmp_path, "e.txt", "u,i\n"))
    found = bad(good, columns={"user": "u", "item": "what"})
    assert "columns.item: found no column 'what' where separator is ',', expected a name in the" in found
    assert found.endswith("or a position from 0 to 3; found u, i, t, v")
    assert "columns.item: found no column 4" in bad(good, columns={"user": "u", "item": 4})
    assert "line 1: found nothing, expected the names of columns" in bad(written(tmp_path, "empty.csv", ""))
    assert "after row 0: expected readable parquet" in bad(written(tmp_path, "e.parquet", "no parquet"))
    (tmp_path / "e.csv.gz").write_text("u,i,t,v\n")
    assert "e.csv.gz: after row 0: expected readable csv" in bad(str(tmp_path / "e.csv.gz"))
    for field, key in {"user": "u", "item": "i", "time": "t", "value": "v"}.items():
        cells = {"u": "a", "i": "x", "v": 1, "t": "2016-10-08"} | {key: {"$is": 3}}
        nested = written(tmp_path, "nested.jsonl", json.dumps(cells))
        assert f"columns.{field}: expected text or numbers in {key!r}; found {{'$is': 3}}" in bad(nested)
    found = bad(written(tmp_path, "e.jsonl", '{"u": "a"}\n'))
    assert "columns.item: found no column 'i'" in found
    assert found.endswith("found u")
    assert "found positions [0]" in bad(
        written(tmp_path, "p.jsonl", "{}\n"), columns={"user": 0, "item": "i"}
    )
    (tmp_path / "wide.jsonl").write_bytes(json_lines().encode("utf-16"))
    assert "wide.jsonl, from line 1: expected one JSON object" in bad(str(tmp_path / "wide.jsonl"))
    latin = tmp_path / "latin.csv"
    latin.write_bytes("u,i\né,x\n".encode("latin-1"))
    assert "latin.csv: after row 0" in bad(str(latin), columns=IDS)
    latin.write_bytes("u,é\na,x\n".encode("latin-1"))
    assert "line 1: expected names of columns in UTF-8" in bad(str(latin), columns={"user": "u", "item": "é"})


def test_a_name_in_another_encoding_that_is_not_asked_for_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("u,größe,i\na,1,x\n".encode("latin-1"))
    assert table(Source(path=str(tmp_path / "latin.csv"), columns=IDS))["item"].to_pylist() == ["x"]


def test_a_name_that_two_columns_have_is_refused(tmp_path: Path) -> None:
    told = "columns.item: found several columns 'i', expected one"
    path = written(tmp_path, "e.csv", "u,i,i,t,v\na,x,y,2016-10-08,1\n")
    assert told in bad(path)
    assert table(Source(path=path, columns=Columns(user=0, item=2)))["item"].to_pylist() == ["y"]
    cells = [pa.array([cell]) for cell in ("a", "x", "y", "2016-10-08", "1")]
    pq.write_table(pa.Table.from_arrays(cells, list("uiitv")), tmp_path / "e.parquet")
    assert told in bad(str(tmp_path / "e.parquet"))
    assert told in bad(str(tmp_path / "e.parquet"), columns={"user": 0, "item": 2})


@pytest.mark.parametrize("name", "uitv")
def test_a_type_that_cannot_be_read_is_named_with_its_column(tmp_path: Path, name: str) -> None:
    cells = {"u": ["a"], "i": ["x"], "t": ["2016-10-08"], "v": [1.0]} | {name: [{"id": "ann"}]}
    pq.write_table(pa.table(cells), tmp_path / "e.parquet")
    found = bad(str(tmp_path / "e.parquet"))
    assert f"e.parquet, from row 1, column '{name}': found type struct<id: string>, expected" in found


@pytest.mark.parametrize("kind", [pa.time64("us"), pa.duration("s")])
def test_a_time_of_the_day_or_a_duration_is_no_time(tmp_path: Path, kind: pa.DataType) -> None:
    cells = {"u": ["a"], "i": ["x"], "t": pa.array([1381945744], kind), "v": [1.0]}
    pq.write_table(pa.table(cells), tmp_path / "e.parquet")
    for unit in ("iso", "s"):
        found = bad(str(tmp_path / "e.parquet"), time_unit=unit)
        assert f"column 't': found type {kind}, expected one that can be read as time" in found


def test_settings_are_checked() -> None:
    for wrong in (
        {"time_unit": "minutes"},
        {"timezone": "Mars"},
        {"colums": {}},
        {"separator": ""},
        {"users": {"number": 0, "of": 2**64}},
    ):
        with pytest.raises(ValidationError):
            Source(**{"path": "e.csv", "columns": COLUMNS, **wrong})


def test_a_message_quotes_the_beginning_of_a_long_cell(tmp_path: Path) -> None:
    swallowed = 'u,i,t,v\na,x,2016-10-08,"1\n' + "b,x,2016-10-08,1\n" * 10_000
    found = bad(written(tmp_path, "e.csv", swallowed))
    assert "column 'v': expected a number; found '1\\nb,x,2016-10-08,1\\n" in found
    assert len(found) < 1000


def test_what_others_are_told_quotes_no_cell(tmp_path: Path) -> None:
    mapped = {"user": 0, "item": 1, "time": 2, "value": 3}
    for text, columns in [
        ("ann,x,2016-10-08,1\n", COLUMNS),
        ("u,i,t,v\nann,x,ann,1\n", COLUMNS),
        ("u,i,t,v\nann,x,2016-10-08,ann\n", COLUMNS),
        ("u,i,t,v\nann,x,1,ann\n", mapped),
    ]:
        with pytest.raises(BadData) as caught:
            table(Source(path=written(tmp_path, "e.csv", text), columns=columns))
        told = to_message(caught.value, (BadData,))["message"]
        assert "e.csv" in told
        assert "ann" not in told
