"""From a file that serves several organisations or names items its own way to one organisation's events."""

import hashlib
import zlib
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from pydantic import BaseModel, ConfigDict, Field, model_validator

from feature_store.cells import of_one_line
from feature_store.errors import BadData


class Aliases(BaseModel):
    """A csv file with a header that tells the common id of each of the organisation's own item ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="the csv file")
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
    of: Annotated[int, Field(ge=2)] = Field(description="how many parts there are")

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
    try:
        as_text = pacsv.ConvertOptions(
            include_columns=[aliases.own, aliases.common],
            column_types={aliases.own: pa.string(), aliases.common: pa.string()},
            null_values=[""],
            strings_can_be_null=True,
        )
        table = pacsv.read_csv(aliases.path, convert_options=as_text)
    except (OSError, pa.ArrowException) as error:
        raise BadData(
            f"{aliases.path}: expected a csv file with columns {aliases.own!r} and {aliases.common!r}", error
        ) from None
    ids = [table[aliases.own], of_one_line(table[aliases.common])]
    known = pa.table(ids, ["own", "common"]).drop_null().group_by("own", use_threads=False)
    known = known.aggregate([("common", "first"), ("common", "count_distinct")])
    several = known["own"].filter(pc.greater(known["common_count_distinct"], 1))
    if len(several):
        raise BadData(
            f"{aliases.path}: found an id of column {aliases.own!r} with several of {aliases.common!r}, "
            "expected one",
            several[0],
        )
    return known["own"].combine_chunks(), known["common_first"].combine_chunks()
