from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from feature_store.catalogue import write_catalogue
from feature_store.cells import INSTANT
from feature_store.cleaning import CleaningReport, CleaningRules, Keys, crowded, microseconds, repeated
from feature_store.errors import BadData
from feature_store.importing import ImportOutcome, import_events
from feature_store.partitions import Store
from feature_store.sources import Columns, Source

NOW = datetime(2020, 1, 1, tzinfo=UTC)
COLUMNS = Columns(user="u", item="i", time="t", value="v")
FEW = st.integers(0, 2)
EVENTS = st.lists(st.tuples(FEW, FEW, FEW, st.sampled_from([0.0, -0.0, 1.0, float("nan")])))


def cleaned(folder: Path, rows: list[str], **rules: Any) -> tuple[ImportOutcome, list[dict[str, Any]]]:
    path = folder / "e.csv"
    path.write_text("u,i,t,v\n" + "".join(row + "\n" for row in rows))
    store = Store(folder / "store")
    source = Source(path=str(path), columns=COLUMNS)
    outcome = import_events(store, "shop", source, CleaningRules(**rules), now=NOW)
    return outcome, store.events("shop").to_pylist()


def test_each_rule_counts_what_it_drops(tmp_path: Path) -> None:
    rows = [
        "a,x,2016-10-08,1",
        "a,x,2016-10-08,1",  # duplicate
        "a,x,2016-10-08,2",
        ",x,2016-10-08,1",  # no user
        "a,,soon,1",  # no item, which counts before its time
        "a,x,,1",  # no time
        "a,x,someday,1",  # unreadable time
        "a,x,1970-01-01,1",  # the zero of the epoch
        "a,x,2020-01-03,1",  # more than a day after now
        "a,x,2020-01-01 12:00,1",
        "a,x,2016-10-08,",  # no value
        "a,x,2016-10-08,good",  # unreadable value
        "a,x,2016-10-08,inf",  # infinite
        "a,x,2016-10-08,6",  # too large
        "a,x,2016-10-08,0",  # too small
        "torn,line",
    ]
    outcome, events = cleaned(tmp_path, rows, lowest=1, highest=5)
    assert outcome.report == CleaningReport(
        rows_read=16,
        kept=3,
        missing_id=3,
        missing_time=2,
        impossible_time=2,
        missing_value=2,
        value_out_of_range=3,
        duplicate=1,
    )
    assert outcome.report.quality == 3 / 16
    assert outcome.added_rows == 3
    assert [event["sequence"] for event in events] == [0, 2, 9]
    manifest = Store(tmp_path / "store").manifest("shop")
    assert manifest.imports[0].months["2016-10"].rows_read == 9
    assert manifest.imports[0].months["none"].missing_time == 2


def test_each_rule_can_be_switched_off(tmp_path: Path) -> None:
    rows = ["a,x,2016-10-08,1", "a,x,2016-10-08,1", "a,x,1969-01-01,", "a,x,2099-01-01,2"]
    off = {"duplicates": "keep", "missing_values": "keep", "earliest": None, "future_hours": None}
    outcome, events = cleaned(tmp_path, rows, **off)
    assert outcome.report == CleaningReport(rows_read=4, kept=4)
    assert [event["sequence"] for event in events] == [2, 0, 1, 3]
    assert events[0]["value"] is None


def test_impossible_times_are_of_no_month(tmp_path: Path) -> None:
    rows = ["a,x,2016-10-08,1", ",x,9000-01-01,1", "a,x,9999-12-31,1"]
    outcome, _ = cleaned(tmp_path, rows)
    assert (outcome.report.missing_id, outcome.report.impossible_time) == (1, 1)
    manifest = Store(tmp_path / "store").manifest("shop")
    assert manifest.imports[0].months.keys() == {"2016-10", "none"}


def test_times_that_no_date_can_say_are_impossible_though_the_future_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("u,i,t\n" + "a,x,1381945744\n" * 20 + "a,x,1381945744000\n")
    source = Source(
        path=str(tmp_path / "e.csv"), columns=Columns(user="u", item="i", time="t"), time_unit="s"
    )
    store, rules = Store(tmp_path / "store"), CleaningRules(future_hours=None, earliest=None)
    assert import_events(store, "shop", source, rules).report.impossible_time == 1
    assert store.events("shop").num_rows == 1
    zoned = pa.table({"u": ["a"], "i": ["x"], "t": pa.array([microseconds(datetime.min) - 1], INSTANT)})
    pq.write_table(zoned, tmp_path / "e.parquet")
    source = Source(path=str(tmp_path / "e.parquet"), columns=Columns(user="u", item="i", time="t"))
    rules = CleaningRules(earliest="0001-01-01T00:00:00+05:00")
    assert import_events(store, "market", source, rules).report.impossible_time == 1
    for hours in (1e9, float("inf"), float("nan")):
        with pytest.raises(ValidationError, match="future_hours"):
            CleaningRules(future_hours=hours)


def test_missing_ids_can_stop_the_import(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"e\.csv: found 1 rows without user or item, expected"):
        cleaned(tmp_path, ["a,,2016-10-08,1"], missing_ids="refuse")


def test_latest_is_a_bound(tmp_path: Path) -> None:
    outcome, _ = cleaned(
        tmp_path, ["a,x,2016-10-08,1", "a,x,2016-10-09,1"], latest=datetime(2016, 10, 8, tzinfo=UTC)
    )
    assert (outcome.report.kept, outcome.report.impossible_time) == (1, 1)


def test_bots_lose_the_hours_and_days_in_which_they_are_too_fast(tmp_path: Path) -> None:
    fast = [f"bot,{n},2016-10-08 10:{n:02}:00,1" for n in range(6)]
    slow = [f"bot,{n},2016-10-08 {n:02}:30:00,1" for n in range(3)]
    human = [f"ann,{n},2016-10-08 10:{n:02}:00,1" for n in range(5)]
    outcome, _ = cleaned(tmp_path, fast + slow + human, bot_events_per_hour=5)
    assert (outcome.report.bot, outcome.report.kept) == (6, 8)
    second = tmp_path / "second"
    second.mkdir()
    outcome, events = cleaned(second, fast + slow + human, bot_events_per_day=5)
    assert (outcome.report.bot, outcome.report.kept) == (9, 5)
    assert {event["user"] for event in events} == {"ann"}


def test_an_item_that_no_catalogue_can_list_is_missing(tmp_path: Path) -> None:
    outcome, events = cleaned(tmp_path, ['a,"x\n",2016-10-08,1', "a,y,2016-10-08,1"])
    assert (outcome.report.missing_id, [event["item"] for event in events]) == (1, ["y"])
    write_catalogue(tmp_path / "catalogue.txt", [event["item"] for event in events])


def test_who_is_dropped_whole_is_no_user(tmp_path: Path) -> None:
    bot = [f"bot,b{n},2016-10-08,1" for n in range(6)]
    cleaned(tmp_path, ["ann,x,2016-10-08,1", *bot, "bob,y,2016-10-09,1"], bot_events_per_day=5)
    events = Store(tmp_path / "store").events("shop")
    for name, words in (("user", ["ann", "bob"]), ("item", ["x", "y"])):
        assert events[name].combine_chunks().dictionary.to_pylist() == words
    (part,) = (tmp_path / "store").rglob("*.parquet")
    assert b"bot" not in part.read_bytes()


def keys(events: list[tuple[int, int, int, float]]) -> Keys:
    time, user, item, value = zip(*events, strict=True) if events else ((), (), (), ())
    return Keys(
        np.array(time, np.int64), np.array(user, np.int32), np.array(item, np.int32), np.array(value, float)
    )


@given(EVENTS, EVENTS)
def test_duplicates_equal_a_loop(older: list[Any], new: list[Any]) -> None:
    def same(event: tuple[int, int, int, float]) -> tuple[object, ...]:
        return (*event[:3], None if event[3] != event[3] else event[3])

    seen = {same(event) for event in older}
    expected = []
    for event in new:
        expected.append(same(event) in seen)
        seen.add(same(event))
    assert repeated(keys(new), keys(older)).tolist() == expected


@given(EVENTS, EVENTS, st.integers(1, 4), st.sampled_from([1, 2, 10**9]))
def test_crowds_equal_a_loop(older: list[Any], new: list[Any], limit: int, scale: int) -> None:
    older, new = ([(event[0] * scale, *event[1:]) for event in events] for events in (older, new))
    counts = Counter((event[0] // 2, event[1]) for event in older + new)
    expected = [counts[event[0] // 2, event[1]] > limit for event in new]
    assert crowded(keys(new), keys(older), 2, limit).tolist() == expected


def test_reports_add_up() -> None:
    one = CleaningReport(rows_read=3, kept=1, bot=2)
    assert one + one == CleaningReport(rows_read=6, kept=2, bot=4)
    assert CleaningReport().quality == 1
    with pytest.raises(ValidationError, match="3 rows read, but 1 kept and 1 dropped"):
        CleaningReport(rows_read=3, kept=1, bot=1)


def test_microseconds_are_exact() -> None:
    assert microseconds(datetime(1970, 1, 1, 0, 0, 1, 7)) == 1_000_007
    assert microseconds(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1
