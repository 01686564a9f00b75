"""From a file that serves several organisations or names items its own way to one organisation's events."""

import csv
import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from feature_store.errors import BadData
from feature_store.readers import opened


class Aliases(BaseModel):
    """A csv file with a header that tells the common id of each of the organisation's own item ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="the csv file, or one that is gzipped (.csv.gz)")
    own: str = Field(description="column of the organisation's own ids")
    common: str = Field(description="column of the catalogue's ids")

    @property
    def digest(self) -> str:
        """SHA-256 of what the file holds; empty where it cannot be read, which those who read it tell."""
        try:
            return hashlib.sha256(Path(self.path).read_bytes()).hexdigest()
        except OSError:
            return ""


class PartOfUsers(BaseModel):
    """One of several parts that a hash (CRC-32) of the user's id deals the users of a file into."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: Annotated[int, Field(ge=0)] = Field(description="which part, counted from 0")
    of: Annotated[int, Field(ge=2, le=2**32)] = Field(description="how many parts there are")

    @model_validator(mode="after")
    def _there_is_such_a_part(self) -> "PartOfUsers":
        if self.number >= self.of:
            raise ValueError(f"found part {self.number} of {self.of}, expected 0 to {self.of - 1}")
        return self


def in_common_ids(events: pa.RecordBatch, known: tuple[pa.Array, pa.Array]) -> pa.RecordBatch:
    """The events under the catalogue's item ids; an item without one becomes null, and is counted so."""
    own, common = known
    place = pc.index_in(events.column("item"), value_set=own)
    return events.set_column(events.schema.get_field_index("item"), "item", pc.take(common, place))


def of_part(events: pa.RecordBatch, part: PartOfUsers) -> pa.RecordBatch:
    """The events of the users of this part; events without a user fall into the first."""
    users = events.column("user").dictionary_encode()
    parts = pa.array(
        [zlib.crc32(str(user).encode()) % part.of for user in users.dictionary.to_pylist()], pa.int64()
    )
    mine = pc.equal(pc.fill_null(pc.take(parts, users.indices), 0), part.number)
    return events.filter(mine)


def read_aliases(aliases: Aliases) -> tuple[pa.Array, pa.Array]:
    """Own and common ids, beside each other; an entry without one of them, or of several lines, is none.

    Raises `BadData` where there is no such file or column, and for an own id with two common ones.
    """
    known: dict[str, str] = {}
    try:
        for own, common in _pairs(aliases):
            if own and common and known.setdefault(own, common) != common:
                raise BadData(
                    f"{aliases.path}: found an id of column {aliases.own!r} with several of "
                    f"{aliases.common!r}, expected one",
                    own,
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadData(f"{aliases.path}: expected a readable csv file", error) from None
    return pa.array(known, pa.string()), pa.array(known.values(), pa.string())


def _pairs(aliases: Aliases) -> Iterator[tuple[str, str]]:
    """An own and a common id of each line; one that a catalogue could not list is empty."""
    with opened(Path(aliases.path)) as stream:
        text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
        lines = csv.reader(text, strict=True)  # else a stray quote swallows the lines after it
        names = next(lines, [])
        if names.count(aliases.own) != 1 or names.count(aliases.common) != 1:
            raise BadData(
                f"{aliases.path}: expected a csv file with columns {aliases.own!r} and {aliases.common!r}",
                ", ".join(names),
            )
        places = names.index(aliases.own), names.index(aliases.common)
        for cells in filter(None, lines):
            if len(cells) != len(names):
                raise BadData(
                    f"{aliases.path}, line {lines.line_num}: found {len(cells)} cells, expected {len(names)}"
                )
            own, common = (cells[place] for place in places)
            yield own, "" if "\n" in common or "\r" in common else common
