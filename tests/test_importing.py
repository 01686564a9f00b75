"""Imports: late events, repeated files, slices, and imports that were killed."""

import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from event_rows import JANUARY, MARCH, Row, put, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store import importing, spool
from feature_store.cleaning import CleaningReport, CleaningRules
from feature_store.errors import BadData
from feature_store.importing import ImportOutcome, import_events
from feature_store.narrowing import Aliases
from feature_store.partitions import Store
from feature_store.sources import Columns, Source


def files_of(store: Store) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(store.root.rglob("*")) if path.is_file()}


def test_the_same_file_twice_changes_nothing(store: Store, tmp_path: Path) -> None:
    first = put(store, tmp_path, JANUARY)
    before = files_of(store)
    again = put(store, tmp_path, JANUARY, name="other-name.csv")
    assert again == ImportOutcome(report=CleaningReport(), added_rows=0, version=first.version)
    assert files_of(store) == before


def test_the_same_file_under_other_settings_is_refused(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path, JANUARY)
    with pytest.raises(BadData, match="read or cleaned with other settings"):
        put(store, tmp_path, JANUARY, rules=CleaningRules(lowest=2))


def test_corrected_aliases_are_other_settings(store: Store, tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("u,i,t\na,x,2016-01-05\n")
    links, columns = tmp_path / "links.csv", Columns(user="u", item="i", time="t")
    aliases = Aliases(path=str(links), own="own", common="common")
    source = Source(path=str(tmp_path / "e.csv"), columns=columns, aliases=aliases)
    for other, common in ((store, "wrong"), (Store(tmp_path / "other"), "right")):
        links.write_text(f"own,common\nx,{common}\n")
        import_events(other, "shop", source)
        assert other.events("shop")["item"].to_pylist() == [common]
    with pytest.raises(BadData, match="read or cleaned with other settings"):
        import_events(store, "shop", source)


def test_late_events_come_as_new_parts_without_duplicates(store: Store, tmp_path: Path) -> None:
    old = put(store, tmp_path, [*JANUARY, *MARCH])
    before = {
        part.file: (store.folder("shop") / part.file).read_bytes() for part in store.manifest("shop").parts
    }
    late = ("c", "z", "2016-01-05 09:30", 1.0)
    correction = ("b", "x", "2016-01-05 09:00", 5.0)
    new = put(store, tmp_path, [late, JANUARY[0], correction], name="late.csv")
    assert new.report == CleaningReport(rows_read=3, kept=2, duplicate=1)
    assert rows_of(store.events("shop")) == [JANUARY[1], correction, late, JANUARY[0], *MARCH]
    assert store.events("shop")["sequence"].to_pylist() == [1, 5, 3, 0, 2]
    assert [part.import_number for part in store.manifest("shop").parts] == [0, 0, 1]
    for name, content in before.items():
        assert (store.folder("shop") / name).read_bytes() == content
    assert rows_of(store.events("shop", version=old.version)) == [JANUARY[1], JANUARY[0], *MARCH]
    assert store.manifest("shop").report.duplicate == 1
    with pytest.raises(BadData, match=f"expected one of .*{old.version}"):
        store.manifest("shop", "unknown")


def test_equal_times_keep_the_order_of_the_file_across_imports(store: Store, tmp_path: Path) -> None:
    rows = [(f"u{n * 7 % 10}", f"i{n}", "2016-01-05 10:00", 1.0) for n in range(10)]
    put(store, tmp_path, rows[:4])
    put(store, tmp_path, rows[4:], name="rest.csv")
    assert store.events("shop", ["item"])["item"].to_pylist() == [f"i{n}" for n in range(10)]


def test_one_import_at_a_time(store: Store, tmp_path: Path) -> None:
    def meddle(rows: int) -> None:
        put(store, tmp_path, MARCH, name="other.csv")

    path = tmp_path / "e.csv"
    path.write_text("u,i\na,x\n")
    source = Source(path=str(path), columns=Columns(user="u", item="i"))
    with pytest.raises(BadData, match="found another import at work"):
        import_events(store, "shop", source, progress=meddle)


def some_rows(count: int, seed: int, days: int = 90) -> list[Row]:
    rng = random.Random(seed)
    return [
        (
            f"u{rng.randrange(20)}",
            f"i{rng.randrange(5)}",
            f"2016-{1 + (day := rng.randrange(days)) // 28:02}-{1 + day % 28:02} {rng.randrange(3):02}:00",
            float(rng.randrange(2)),
        )
        for _ in range(count)
    ]


def loop(rows: list[Row]) -> list[Row]:
    """What a store must give, slowly."""
    return sorted(dict.fromkeys(rows), key=lambda row: row[2])


@pytest.mark.parametrize("days", [1, 3, 90])
def test_small_slices_give_the_same_events(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    rows = some_rows(2000, seed=days, days=days)
    monkeypatch.setattr(importing, "CHECKED_ROWS", 100)
    monkeypatch.setattr(importing, "SLICE_ROWS", 50)
    put(store, tmp_path, rows[:1500])
    put(store, tmp_path, rows[1400:], name="rest.csv")
    assert rows_of(store.events("shop")) == loop(rows)
    assert max(part.rows for part in store.manifest("shop").parts) <= 150
    batches = [*store.batches("shop")]
    assert rows_of(pa.Table.from_batches(batches).unify_dictionaries()) == loop(rows)


def test_memory_holds_a_slice_not_a_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def clean(events: pa.Table, *rest: Any) -> Any:
        seen.append(events.num_rows)
        return slices(events, *rest)

    slices = importing.clean_slice
    monkeypatch.setattr(importing, "SLICE_ROWS", 100)
    monkeypatch.setattr(importing, "clean_slice", clean)
    put(store, tmp_path, some_rows(5000, seed=1))
    assert sum(seen) == 5000
    assert max(seen) <= 100


def test_slices_hold_whole_days_or_whole_users() -> None:
    base, buckets, names = spool._plan(Counter({1: 30, 2: 60, 3: 20, 5: 250, 6: 10, 7: 100}), 100)
    assert base.tolist() == [0, 0, 1, 0, 2, 5, 6]
    assert buckets.tolist() == [1, 1, 1, 1, 3, 1, 1]
    assert len(names) == 7


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 70)), max_size=30), st.data())
def test_any_split_into_imports_gives_the_same_events(
    codes: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    rows = [(f"u{u}", f"i{i}", f"2016-{1 + t // 28:02}-{1 + t % 28:02} 00:00", 1.0) for u, i, t in codes]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(folder / "store")
        kept = 0
        for number, (first, last) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
            kept += put(store, folder, rows[first:last], name=f"{number}.csv").added_rows
        assert rows_of(store.events("shop")) == loop(rows)
        assert kept == store.manifest("shop").rows == len(set(rows))


def test_equal_imports_have_equal_versions(tmp_path: Path) -> None:
    versions = {
        put(Store(tmp_path / name), tmp_path, some_rows(100, seed=2)).version for name in ("one", "two")
    }
    assert len(versions) == 1
    assert put(Store(tmp_path / "three"), tmp_path, some_rows(100, seed=3)).version not in versions


DYING = """
import os, signal, sys
from pathlib import Path
from feature_store import importing
from feature_store.importing import import_events
from feature_store.partitions import Store
from feature_store.sources import Source
left = int(sys.argv[3])
def dying(call):
    def counted(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **named)
    return counted
os.replace = dying(os.replace)
importing.write_part = dying(importing.write_part)
importing.shutil.rmtree = dying(importing.shutil.rmtree)
columns = {"user": "u", "item": "i", "time": "t", "value": "v"}
import_events(Store(sys.argv[1]), "shop", Source(path=sys.argv[2], columns=columns), progress=dying(print))
"""


def test_a_killed_import_leaves_the_old_or_the_new(store: Store, tmp_path: Path) -> None:
    old, new = some_rows(50, seed=4), some_rows(80, seed=5)
    put(store, tmp_path, old)
    path = tmp_path / "new.csv"
    path.write_text("u,i,t,v\n" + "".join(f"{u},{i},{t},{v}\n" for u, i, t, v in new))
    before, after = loop(old), loop(old + new)
    results = []
    for call in (1, 4, 8, 11, 12, 13):  # reading, writing parts, moving them, history, manifest, sweeping
        done = subprocess.run(
            [sys.executable, "-c", DYING, str(store.root), str(path), str(call)],
            stdout=subprocess.DEVNULL,
            check=False,
        )
        results.append(rows_of(store.events("shop")))
        assert results[-1] in (before, after)
        assert done.returncode in (-signal.SIGKILL, 0)
        store.verify("shop")
    assert results[0] == before
    assert results[-1] == after
    put(store, tmp_path, MARCH, name="last.csv")
    assert rows_of(store.events("shop")) == loop(old + new + MARCH)
    assert not [path for path in store.root.rglob("*") if "tmp" in path.name]
    named = {part.file for part in store.manifest("shop").parts}
    found = {str(path.relative_to(store.folder("shop"))) for path in store.root.rglob("*.parquet")}
    assert found == named


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("u,i\nb,y\n")])
def test_a_file_that_changes_while_it_is_read_is_refused(store: Store, tmp_path: Path, change: Any) -> None:
    path, columns = tmp_path / "e.csv", Columns(user="u", item="i")
    path.write_text("u,i\na,x\n")
    with pytest.raises(BadData, match=r"e\.csv: found it changed while it was read"):
        import_events(store, "shop", Source(path=str(path), columns=columns), progress=lambda _: change(path))
    assert store.organisations() == []
    path.write_text("u,i\nb,y\n")
    assert import_events(store, "shop", Source(path=str(path), columns=columns)).added_rows == 1
