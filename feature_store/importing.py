"""From event files to partitions: read, check, clean, write, commit.

Two passes: the first reads the files once and spools their rows by month, the second cleans and
writes each month in slices that fit in memory.  Nothing is seen by readers until the manifest is
renamed into place; a process that dies before leaves the old data, and rubbish that the next import sweeps.
"""

import fcntl
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from feature_store import cleaning
from feature_store.cleaning import CleaningReport, CleaningRules, microseconds
from feature_store.errors import BadData
from feature_store.manifest import Import, Manifest, Part, read_manifest, write_manifest
from feature_store.new_files import File, new_files, require_unchanged, settings_of
from feature_store.partitions import Store, file_hash, write_part
from feature_store.schema import check_events
from feature_store.slices import KEY_COLUMNS, clean_slice, microseconds_of, span
from feature_store.sources import EVENT_SCHEMA, Source, read_file
from feature_store.spool import NO_MONTH, Spool, in_slices, months_of

SLICE_ROWS = 1 << 20  # events that are cleaned at a time
CHECKED_ROWS = 1 << 18  # events that are checked at a time at least: pandera takes 5 ms however few they are
_SPOOLED = EVENT_SCHEMA.append(pa.field("sequence", pa.int64()))
Progress = Callable[[int], None]


class ImportOutcome(BaseModel):
    """What an import did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    report: CleaningReport = Field(
        description="rows read and kept; all zero where every file was imported before"
    )
    added_rows: int = Field(ge=0, description="events added to the store")
    version: str = Field(description="version of the organisation's data afterwards")


def import_events(
    store: Store,
    organisation: str,
    source: Source,
    rules: CleaningRules | None = None,
    progress: Progress | None = None,
    now: datetime | None = None,
) -> ImportOutcome:
    """Add the events of `source` to those of `organisation`; files that were imported before change nothing.

    `progress` is called with the rows read so far.  `now` is when the import began.  Raises `BadData`: for
    files that cannot be read or change meanwhile, and for a file that was imported under other settings.
    """
    rules, folder = rules or CleaningRules(), store.folder(organisation)
    with _locked(folder):
        manifest = read_manifest(folder)
        _sweep(folder, manifest)
        settings = settings_of(source, rules)
        files = new_files(source, settings, manifest)
        if not files:
            return ImportOutcome(report=CleaningReport(), added_rows=0, version=manifest.version)
        work = _Work(store, organisation, source, rules, manifest, folder / "import.tmp")
        work.folder.mkdir(mode=0o700)
        spool, months = _spool(work, [*files.values()], now or _now(store, organisation), progress)
        require_unchanged([*files.values()])
        parts = tuple(_write(work, spool, months))
        done = Import(
            files={digest: file.path.name for digest, file in files.items()},
            settings=settings,
            report=sum(months.values(), CleaningReport()),
            months=dict(sorted(months.items())),
        )
        manifest = manifest.with_import(done, parts)
        _commit(work, manifest, parts)
    return ImportOutcome(report=done.report, added_rows=done.report.kept, version=manifest.version)


class _Work(NamedTuple):
    store: Store
    organisation: str
    source: Source
    rules: CleaningRules
    manifest: Manifest
    folder: Path


def _now(store: Store, organisation: str) -> datetime:
    """The time; after a clock has stepped back, that of the last import: what was past is no future."""
    return datetime.fromtimestamp(max(time.time(), store.changed_at(organisation) or 0.0), UTC)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    with open(os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadData(f"{folder}: found another import at work, expected one at a time") from error
        yield


def _sweep(folder: Path, manifest: Manifest) -> None:
    """Remove what an import that was killed has left."""
    for path in [*folder.glob("*.tmp"), *folder.glob("manifests/*.tmp")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    named = {folder / part.file for part in manifest.parts}
    for path in folder.glob("month=*/*"):
        if path not in named:
            path.unlink()


def _spool(
    work: _Work, files: list[File], now: datetime, progress: Progress | None
) -> tuple[Spool, dict[str, CleaningReport]]:
    """The first pass: rows that are right in themselves by month, and a report of the others."""
    spool = Spool(work.folder / "spool", _SPOOLED)
    months: dict[str, CleaningReport] = defaultdict(CleaningReport)
    span = cleaning.bounds(work.rules, now)
    mapped = set(work.source.columns.model_dump(exclude_none=True))
    sequence = work.manifest.next_sequence
    for path, batch in ((each.path, batch) for each in files for batch in read_file(work.source, each.path)):
        times = batch["time"].cast(pa.int64()).fill_null(cleaning.NO_TIME).to_numpy(zero_copy_only=False)
        fault = cleaning.faults(batch, times, work.rules, span, mapped, str(path))
        times = np.where((times < span[0]) | (times > span[1]), cleaning.NO_TIME, times)
        _deal(spool, months, batch, times, fault, sequence)
        sequence += batch.num_rows
        if progress:
            progress(sequence - work.manifest.next_sequence)
    return spool, months


def _deal(
    spool: Spool, months: dict[str, CleaningReport], batch: Any, times: Any, fault: Any, sequence: int
) -> None:
    """Spool what has no fault by month, count the rest there; what has no possible time is of no month."""
    numbered = pa.record_batch(
        [*batch.columns, pa.array(np.arange(sequence, sequence + batch.num_rows))], schema=_SPOOLED
    )
    dated = times != cleaning.NO_TIME
    place = np.zeros(batch.num_rows, np.int64)
    place[dated], names = months_of(times[dated])
    place[~dated], names = len(names), [*names, NO_MONTH]
    spool.deal(numbered, np.where(fault == 0, place, -1), names)
    for number in np.unique(place[fault != 0]):
        counts = cleaning.fault_counts(fault[place == number])
        months[names[number]] += CleaningReport(rows_read=sum(counts.values()), **counts)


def _write(work: _Work, spool: Spool, months: dict[str, CleaningReport]) -> Iterator[Part]:
    """The second pass: clean slice by slice, check some together, write each as a part."""
    checked: list[tuple[str, pa.Table]] = []
    numbers = Counter(part.month for part in work.manifest.parts)
    for month in sorted(spool.rows.copy()):
        older = [part for part in work.manifest.parts if part.month == month]
        for events in in_slices(spool, month, SLICE_ROWS):
            near = _near(older, span(microseconds_of(events["time"])))
            read = (work.store.read_part(work.organisation, part, KEY_COLUMNS) for part in near)
            clean, report = clean_slice(events, work.rules, read)
            months[month] += report
            checked += [(month, clean)] if clean.num_rows else []
            if sum(table.num_rows for _, table in checked) >= CHECKED_ROWS:
                yield from _parts(work, checked, numbers)
    yield from _parts(work, checked, numbers)


def _near(parts: list[Part], within: tuple[int, int]) -> list[Part]:
    """Parts that have events within these microseconds; all where there are no times."""
    return [
        part
        for part in parts
        if part.first_at is None
        or part.last_at is None
        or (microseconds(part.first_at) < within[1] and microseconds(part.last_at) >= within[0])
    ]


def _parts(work: _Work, checked: list[tuple[str, pa.Table]], numbers: Counter[str]) -> Iterator[Part]:
    """Check the tables, write each, forget them."""
    check_events(
        [table for _, table in checked], f"{work.organisation}, months {[month for month, _ in checked]}"
    )
    for month, table in checked:
        yield _part(work, month, numbers[month], table)
        numbers[month] += 1
    checked.clear()


def _part(work: _Work, month: str, number: int, events: pa.Table) -> Part:
    beside = work.folder / f"{month}-{number}.parquet"
    write_part(beside, events)
    content = file_hash(beside)
    span = pc.min_max(events["event_time"]).as_py()
    name = f"month={month}/part-{number}-{content[:16]}.parquet"
    beside.rename(work.folder / name.replace("/", "-"))
    return Part(
        month=month,
        file=name,
        rows=events.num_rows,
        content_hash=content,
        first_at=span["min"],
        last_at=span["max"],
        import_number=len(work.manifest.imports),
    )


def _commit(work: _Work, manifest: Manifest, parts: tuple[Part, ...]) -> None:
    """Move the parts to their places, then name them in the manifest."""
    home = work.folder.parent
    for part in parts:
        path = home / part.file
        path.parent.mkdir(mode=0o700, exist_ok=True)
        os.replace(work.folder / part.file.replace("/", "-"), path)
    write_manifest(home, manifest)
    shutil.rmtree(work.folder)
