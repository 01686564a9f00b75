import json
from pathlib import Path

import numpy as np
import pytest
from event_rows import COLUMNS, IDS, bad, read_batches, table, written

from feature_store import json_lines, readers
from feature_store.sources import Columns, Source

UNTOLD = Columns(user="u", item="i", time="t")


def test_unreadable_cells_and_torn_lines_become_nulls(tmp_path: Path) -> None:
    text = (
        "u,i,t,v\n"
        + "a,x,2016-10-08,1\n" * 20
        + "b,y,soon,2\nc,z,2016-10-09,good\ntorn,line\n,q,2016-10-08,1\n"
    )
    found = table(Source(path=written(tmp_path, "e.csv", text), columns=COLUMNS))
    assert found.num_rows == 24
    assert found.slice(20, 2)["time"].null_count == 1
    assert found.slice(20, 2)["value"].null_count == 1
    assert found["user"].null_count == 2  # the empty cell and the torn line
    assert found["item"].null_count == 1


def test_a_quote_that_swallows_lines_is_named(tmp_path: Path) -> None:
    lines = [f"a{row},x,2016-10-08,title\n" for row in range(50)]
    stray = [*lines]
    stray[6] = 'a6,x,2016-10-08,"Best of\n'
    assert "e.csv, line 8: a quote opens a cell" in bad(
        written(tmp_path, "e.csv", "u,i,t,w\n" + "".join(stray)), columns=UNTOLD
    )
    stray[30] = 'a30,x,2016-10-08,"The rest of\n'
    assert "e.csv, line 8: a quote opens a cell" in bad(
        written(tmp_path, "e.csv", "u,i,t,w\n" + "".join(stray)), columns=UNTOLD
    )


@pytest.mark.parametrize("text", ["u,i,t,v", "u,i,t,v\n", "\ufeffu,i,t,v\r\n", '"u","i","t","v"'])
def test_a_header_alone_is_a_file_without_events(tmp_path: Path, text: str) -> None:
    assert not [*read_batches(Source(path=written(tmp_path, "e.csv", text), columns=COLUMNS))]


def test_cells_in_quotes_may_have_several_lines(tmp_path: Path) -> None:
    text = "u,i,t,w\n" + "".join(f'a{row},x,2016-10-08,"of ""two""\n\nlines"\n\n' for row in range(50))
    found = table(Source(path=written(tmp_path, "e.csv", text), columns=UNTOLD))
    assert found["user"].to_pylist() == [f"a{row}" for row in range(50)]


def test_cells_of_several_lines_may_be_long_and_lie_across_blocks(tmp_path: Path) -> None:
    review = "well,\n" * 40_000
    text = "u,i,t,w\n" + "".join(f'a{row},x,2016-10-08,"{review}"\n' for row in range(50))
    assert len(text) > readers.BLOCK_BYTES
    found = table(Source(path=written(tmp_path, "e.csv", text), columns=UNTOLD))
    assert found["user"].to_pylist() == [f"a{row}" for row in range(50)]


def test_a_quote_that_swallows_a_whole_block_is_named(tmp_path: Path) -> None:
    text = 'u,i,t,w\na,x,2016-10-08,"Best of\n' + "b,x,2016-10-08,title\n" * 1_000_000
    assert "e.csv, line 2: a quote opens a cell" in bad(written(tmp_path, "e.csv", text), columns=UNTOLD)


def test_long_lines_and_separators_of_several_bytes(tmp_path: Path) -> None:
    for separator in ("::", "é"):
        lines = [separator.join((f"a{row}", "x", "2016-10-08", "w" * 5000)) for row in range(4000)]
        path = written(tmp_path, "e.csv", "\n".join(lines))
        source = Source(path=path, header=False, separator=separator, columns=Columns(user=0, item=1, time=2))
        assert table(source)["user"].to_pylist() == [f"a{row}" for row in range(4000)]


@pytest.mark.parametrize("separator", [",", "::"])
def test_files_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str) -> None:
    monkeypatch.setattr(readers, "BLOCK_BYTES", 1000)
    rows = "".join(f"user-{n}{separator}{n}\n" for n in range(1000))
    source = Source(
        path=written(tmp_path, "e.csv", rows),
        separator=separator,
        header=False,
        columns=Columns(user=0, item=1),
    )
    batches = list(read_batches(source))
    assert max(batch.num_rows for batch in batches) < 150
    assert np.array_equal(
        np.concatenate([batch["item"].to_numpy(False) for batch in batches]).astype(int), np.arange(1000)
    )


def test_json_lines_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 100)
    rows = "".join(json.dumps({"u": n, "i": n}) + "\n" for n in range(200)) + "no json\n[1]\n{}"
    source = Source(path=written(tmp_path, "e.jsonl", rows), columns=IDS)
    batches = list(read_batches(source))
    assert max(batch.num_rows for batch in batches) < 15
    users = [user for batch in batches for user in batch["user"].to_pylist()]
    assert users == [*map(str, range(200)), None, None, None]


def test_json_that_is_no_lines_is_refused(tmp_path: Path) -> None:
    array = [{"u": "a", "i": "x"}, {"u": "b", "i": "y"}]
    for text in (json.dumps(array), json.dumps(array).replace("}, ", "},\n"), json.dumps(array, indent=1)):
        assert "found a JSON array, expected one object a line" in bad(
            written(tmp_path, "e.json", text), columns=IDS
        )
    told = bad(written(tmp_path, "e.jsonl", "u,i\na,x\n"), columns=IDS)
    assert told.endswith("e.jsonl, from line 1: expected one JSON object a line; found b'u,i'")
    path = written(tmp_path, "e.json", json.dumps(array * 300_000))
    assert "found a line of more than 8,388,608 bytes, expected one object a line" in bad(path, columns=IDS)


def test_a_line_that_json_cannot_nest_and_a_cell_that_no_text_can_hold_are_null(tmp_path: Path) -> None:
    text = '{"u": "a", "i": "x"}\n{"u": "\\ud83d", "i": "x"}\n{"u": "\\ud83d\\ude00", "i": "x"}\n'
    path = written(tmp_path, "e.jsonl", text + "[" * 100_000)
    found = table(Source(path=path, columns=IDS))
    assert found["user"].to_pylist() == ["a", None, "\U0001f600", None]


def test_json_numbers_are_ids_as_in_other_files(tmp_path: Path) -> None:
    text = '{"u": 7.0, "i": 1e15}\n{"u": NaN, "i": 9007199254740993}\n'
    found = table(Source(path=written(tmp_path, "e.jsonl", text), columns=IDS))
    assert found["user"].to_pylist() == ["7", None]
    assert found["item"].to_pylist() == ["1000000000000000", "9007199254740993"]
