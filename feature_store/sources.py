"""Event files as they come: CSV with any separator, TSV, Parquet, JSON lines, each also gzipped.

`read_file` streams: a file larger than memory passes in blocks of a few megabytes.
"""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, field_validator

from feature_store import cells
from feature_store.errors import BadData
from feature_store.json_lines import read_jsonl
from feature_store.narrowing import Aliases, PartOfUsers, in_common_ids, of_part, read_aliases
from feature_store.readers import Cells, read_csv, read_parquet

EVENT_SCHEMA = pa.schema(
    [
        ("user", pa.string()),
        ("item", pa.string()),
        ("time", cells.INSTANT),
        ("value", pa.float64()),
        ("known_time", cells.INSTANT),
    ]
)
_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".pq": "parquet"} | dict.fromkeys(
    (".jsonl", ".ndjson", ".json"), "jsonl"
)


Column = str | Annotated[int, Field(strict=True)]  # else no, which YAML takes for false, is the first column


class Columns(BaseModel):
    """Where each field of an event stands: a column's name, or its position counted from 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: Column = Field(description="column of the user's id")
    item: Column = Field(description="column of the item's id")
    time: Column | None = Field(
        default=None, description="column of the event's time; none: no `temporal` split"
    )
    value: Column | None = Field(
        default=None, description="column of the event's value, such as a rating; none: no values"
    )
    known_time: Column | None = Field(
        default=None,
        description="column of the time at which the event became known; none, or empty: when it happened",
    )


class Source(BaseModel):
    """Event files of one organisation, and how to read them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(
        min_length=1,
        description="a file (text in UTF-8), or a pattern such as events-*.csv.gz; ** is any folders",
    )
    format: Literal["csv", "tsv", "parquet", "jsonl"] | None = Field(
        default=None, description="kind of file; none: from the suffix, csv where only a separator is given"
    )
    separator: str | None = Field(
        default=None, min_length=1, description="between the cells of a csv file, as , or :: or a space"
    )
    header: bool = Field(
        default=True, description="whether the first line of a csv or tsv file names its columns"
    )
    columns: Columns = Field(description="which column holds what")
    time_unit: Literal["iso", "s", "ms", "us", "ns", "day"] = Field(
        default="iso", description="dates and times as text (iso), or a count since 1970 in this unit"
    )
    timezone: str = Field(
        default="UTC", description="zone of times that name none themselves, as Europe/Berlin"
    )

    aliases: Aliases | None = Field(
        default=None,
        description="common ids of items that the files name otherwise; one without counts as missing",
    )
    users: PartOfUsers | None = Field(
        default=None, description="only a part of the users, by a hash of their ids"
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"found timezone {timezone!r}, expected a name such as UTC or Europe/Berlin"
            ) from error
        return timezone

    def under(self, folder: Path) -> "Source":
        """The same, where relative paths start from `folder`."""
        aliases = self.aliases and self.aliases.model_copy(update={"path": str(folder / self.aliases.path)})
        if glob.has_magic(self.path):  # else data[1] is read as data1
            folder = Path(glob.escape(str(folder)))
        return self.model_copy(update={"path": str(folder / self.path), "aliases": aliases})

    def files(self) -> list[Path]:
        """The files that `path` names, in the order of their names; a link to nothing is one, too.

        Raises `BadData` where there is none, and for a folder that may not be looked into.
        """
        whole = Path(self.path)
        _require_open(whole)
        found = [whole] if whole.is_file() else map(Path, glob.glob(self.path, recursive=True))
        files = sorted(path for path in found if path.is_file() or not path.exists())
        if not files:
            what = "found a folder" if whole.is_dir() else "no such file"
            raise BadData(f"{self.path}: {what}; expected a file or a pattern that matches some")
        return files

    def format_of(self, path: Path) -> str:
        """`format`, or what the suffix of `path` says."""
        suffixes = [suffix for suffix in map(str.lower, path.suffixes) if suffix != ".gz"]
        found = self.format or _SUFFIXES.get(suffixes[-1] if suffixes else "")
        if found is None and self.separator is None:
            raise BadData(
                f"{path}: format? found suffix {path.suffix!r}, expected one of {', '.join(_SUFFIXES)}"
            )
        return found or "csv"


def _require_open(pattern: Path) -> None:
    """Raise `BadData` for a folder on the way that may not be looked into: glob passes it over unsaid."""
    for folder in filter(glob.has_magic, map(str, pattern.parents)):
        for each in glob.glob(folder, recursive=True):
            if os.path.isdir(each) and not os.access(each, os.R_OK | os.X_OK, effective_ids=True):
                raise BadData(f"{each}: expected a folder that can be read, found: Permission denied")


def read_file(source: Source, path: Path) -> Iterator[pa.RecordBatch]:
    """One file of `source`, in batches of `EVENT_SCHEMA` in file order.

    Columns that the source does not map are null, and so is what cannot be read.  A line with too
    few or too many cells is a row of nulls at the end of its batch.  Raises `BadData`.
    """
    line, common = 1, read_aliases(source.aliases) if source.aliases else None
    try:
        for found in _cells(source, path):
            batch = _events(found, source, f"{path}, from row {line}", first=line == 1)
            line += batch.num_rows
            batch = batch if source.users is None else of_part(batch, source.users)
            yield batch if common is None else in_common_ids(batch, common)
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        expected = source.format_of(path)
        raise BadData(f"{path}: after row {line - 1}: expected readable {expected}", error) from error


def _cells(source: Source, path: Path) -> Iterator[Cells]:
    columns, found = source.columns.model_dump(exclude_none=True), source.format_of(path)
    if found == "parquet":
        return read_parquet(path, columns)
    if found == "jsonl":
        return read_jsonl(path, columns)
    return read_csv(path, columns, source.separator or ("\t" if found == "tsv" else ","), source.header)


def _events(found: Cells, source: Source, place: str, first: bool) -> pa.RecordBatch:
    events = {field.name: pa.nulls(len(found["user"]), field.type) for field in EVENT_SCHEMA}
    for name, column in source.columns.model_dump(exclude_none=True).items():
        where = f"{place}, column {column!r}"
        try:
            events[name] = _read(name, found[name], source, where, first)
        except pa.ArrowException as error:
            raise BadData(
                f"{where}: found type {found[name].type}, expected one that can be read as {name}", error
            ) from error
    if "known_time" in found:  # one that cannot be read must not pass for none: it would be known too early
        given = pc.invert(pc.is_null(found["known_time"], nan_is_null=True))
        unread = pc.and_(given, pc.is_null(events["known_time"]))
        events["time"] = pc.if_else(unread, pa.scalar(None, cells.INSTANT), events["time"])
    return pa.record_batch(events, schema=EVENT_SCHEMA)


def _read(name: str, found: pa.Array, source: Source, place: str, first: bool) -> pa.Array:
    """The cells `found` as the field `name`; of a file's `first` rows also whether most can be read."""
    if name in ("user", "item"):
        ids = cells.identifiers(found)
        return ids if name == "user" else cells.of_one_line(ids)
    if name == "value":
        read = cells.numbers(found)
        if first:
            cells.check_values(found, read, place)
        return read
    read = cells.instants(found, source.time_unit, source.timezone)
    if first:
        cells.check_times(found, read, source.time_unit, place)
    return read
