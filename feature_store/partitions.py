"""Events as Parquet by organisation and month, each file written once and never changed.

`<root>/<organisation>/month=YYYY-MM/part-<n>-<hash>.parquet`, sorted by time and sequence.  What an
organisation's manifest names is the data; every manifest that ever was stays readable.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.cells import INSTANT
from feature_store.cleaning import microseconds
from feature_store.errors import BadData
from feature_store.manifest import FILE_NAME, Manifest, Part, read_manifest

TEXT = pa.dictionary(pa.int32(), pa.string())
PART_SCHEMA = pa.schema(
    [
        ("user", TEXT),
        ("item", TEXT),
        ("event_time", INSTANT),
        ("value", pa.float64()),
        ("known_time", INSTANT),
        ("sequence", pa.int64()),
    ]
)
ROW_GROUP_ROWS = 1 << 18
_ORDER = ("event_time", "sequence")


class Store:
    """A folder of organisations' events; nothing in it is changed by reading."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def organisations(self) -> list[str]:
        """Names of the organisations whose events were imported."""
        return sorted(path.parent.name for path in self.root.glob(f"*/{FILE_NAME}"))

    def folder(self, organisation: str) -> Path:
        """Where the events of `organisation` lie; raises `BadData` for a name that cannot be a folder's."""
        if not re.fullmatch(r"\w[\w .-]*", organisation):
            raise BadData(f"organisation: found {organisation!r}, expected letters, digits, and . - _ within")
        return self.root / organisation

    def manifest(self, organisation: str, version: str | None = None) -> Manifest:
        """The manifest of `organisation`, now or at `version`; raises `BadData` where there is none."""
        folder = self.folder(organisation)
        if not (folder / FILE_NAME).is_file():
            raise BadData(f"{folder}: found no events of {organisation!r}, expected an import before")
        return read_manifest(folder, version)

    def changed_at(self, organisation: str) -> float | None:
        """When its events changed last, in seconds since 1970; none where nothing was imported."""
        path = self.folder(organisation) / FILE_NAME
        return path.stat().st_mtime if path.is_file() else None

    def events(
        self,
        organisation: str,
        columns: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
    ) -> pa.Table:
        """Events with `since` <= event_time < `until`, in order of event_time and sequence, as one table.

        Columns are those of `PART_SCHEMA`, all or the given ones.  Events without a time come only
        where no time is asked for, last and in file order.
        """
        found = [*self.batches(organisation, columns, since, until, version)]
        schema = pa.schema([PART_SCHEMA.field(name) for name in columns or PART_SCHEMA.names])
        return pa.Table.from_batches(found, schema).unify_dictionaries().combine_chunks()

    def batches(
        self,
        organisation: str,
        columns: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The same events in the same order, as batches; memory holds the parts whose times overlap.

        Each batch has dictionaries of its own.
        """
        names = list(columns or PART_SCHEMA.names)
        if unknown := set(names) - set(PART_SCHEMA.names):
            raise BadData(f"columns: found {sorted(unknown)}, expected some of {PART_SCHEMA.names}")
        parts = [part for part in self.manifest(organisation, version).parts if _within(part, since, until)]
        for group in _overlapping(parts):
            read = [self.read_part(organisation, part, list({*names, *_ORDER})) for part in group]
            events = _sorted(_cut(pa.concat_tables(read), since, until))
            yield from events.select(names).unify_dictionaries().combine_chunks().to_batches()

    def read_part(self, organisation: str, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
        """The events of one part."""
        path = self.folder(organisation) / part.file
        try:
            return pq.ParquetFile(path).read(columns=columns and list(columns), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            remedy = f"restore it, or remove {self.folder(organisation)}: then all files are imported anew"
            raise BadData(f"{path}: expected the part that the manifest names; {remedy}", error) from error

    def verify(self, organisation: str) -> None:
        """Raise `BadData` unless every part is what its content hash says."""
        for part in self.manifest(organisation).parts:
            path = self.folder(organisation) / part.file
            found = file_hash(path) if path.is_file() else "no file"
            if found != part.content_hash:
                raise BadData(f"{path}: expected content {part.content_hash}, found {found}")


def write_part(path: Path, events: pa.Table) -> None:
    """Write clean, sorted `events` to `path`, readable by its owner only."""
    coded = ["user", "item", "value"]
    pq.write_table(
        events,
        path,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        use_dictionary=coded,
        dictionary_pagesize_limit=1 << 26,
        column_encoding={name: "DELTA_BINARY_PACKED" for name in PART_SCHEMA.names if name not in coded},
        write_statistics=list(_ORDER),
    )
    os.chmod(path, 0o600)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_order(events: pa.Table) -> bool:
    """Whether `events` are sorted by event_time (nulls last) and sequence, no two with the same."""
    time = np.asarray(events["event_time"].cast(pa.int64()).fill_null(np.iinfo(np.int64).max))
    sequence = events["sequence"].to_numpy()
    tied = (time[1:] == time[:-1]) & (sequence[1:] > sequence[:-1])
    return bool(np.all((time[1:] > time[:-1]) | tied))


def _within(part: Part, since: datetime | None, until: datetime | None) -> bool:
    if part.first_at is None or part.last_at is None:
        return since is None and until is None
    early = since is not None and microseconds(part.last_at) < microseconds(since)
    return not early and (until is None or microseconds(part.first_at) < microseconds(until))


def _overlapping(parts: list[Part]) -> Iterator[list[Part]]:
    """Parts in groups whose times do not overlap, earliest first; parts without times are the last group."""
    timed = [part for part in parts if part.first_at is not None]
    group: list[Part] = []
    last = 0
    for part in sorted(timed, key=lambda part: microseconds(_known(part.first_at))):
        if group and microseconds(_known(part.first_at)) > last:
            yield group
            group = []
        last = max(last, microseconds(_known(part.last_at))) if group else microseconds(_known(part.last_at))
        group.append(part)
    if group:
        yield group
    if len(timed) < len(parts):
        yield [part for part in parts if part.first_at is None]


def _known(time: datetime | None) -> datetime:
    assert time is not None
    return time


def _cut(events: pa.Table, since: datetime | None, until: datetime | None) -> pa.Table:
    if since is None and until is None:
        return events
    time = events["event_time"].cast(pa.int64())
    low = microseconds(since) if since else np.iinfo(np.int64).min
    high = microseconds(until) if until else np.iinfo(np.int64).max
    return events.filter(pc.and_(pc.greater_equal(time, low), pc.less(time, high)))


def _sorted(events: pa.Table) -> pa.Table:
    """`events` by time (nulls last) and sequence, as they are where they are so already."""
    if in_order(events):
        return events
    time = np.asarray(events["event_time"].cast(pa.int64()).fill_null(np.iinfo(np.int64).max))
    return events.take(pa.array(np.lexsort((events["sequence"].to_numpy(), time))))
