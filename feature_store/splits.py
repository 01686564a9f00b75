"""Which events are training, validation and test, and what is asked of a recommender in each part.

A cut in time is the protocol without a leak from the future (Meng et al., RecSys 2020); the last item
of each user withheld is only there for comparison with published tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from feature_store.cleaning import in_utc
from feature_store.errors import BadData

TRAIN, VALIDATION, TEST = 0, 1, 2
Quantile = Annotated[float, Field(gt=0, lt=1)]


class TemporalSplit(BaseModel):
    """Training before the first cut, validation before the second, test from there on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["temporal"] = Field(default="temporal", description="one cut in time for everybody")
    cuts: tuple[datetime, datetime] | None = Field(
        default=None, description="when validation and test begin (UTC); none: quantiles of all events' times"
    )
    validation: Quantile = Field(
        default=0.8, description="share of all events before validation, without cuts"
    )
    test: Quantile = Field(default=0.9, description="share of all events before the test, without cuts")

    @field_validator("cuts")
    @classmethod
    def _in_utc(cls, cuts: tuple[datetime, datetime] | None) -> tuple[datetime, datetime] | None:
        if cuts is None:
            return None
        first, second = map(in_utc, cuts)
        if first >= second:
            raise ValueError(f"found {first} and {second}, expected the first to be earlier")
        return first, second

    @model_validator(mode="after")
    def _ordered(self) -> "TemporalSplit":
        if self.validation >= self.test:
            raise ValueError(f"found validation {self.validation}, expected less than test {self.test}")
        return self


class LeaveLastOut(BaseModel):
    """Each user's last event is test, the one before it validation; users with fewer than 3 only train."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["leave-last-out"] = Field(
        default="leave-last-out", description="each user's last event is withheld"
    )


class GivenSplit(BaseModel):
    """The test comes in files of its own; of the rest each user's last event is validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["given"] = Field(default="given", description="test events come in files of their own")


Split = Annotated[TemporalSplit | LeaveLastOut | GivenSplit, Field(discriminator="kind")]


@dataclass(frozen=True)
class Queries:
    """Users who are asked, ascending, with the items they have seen and those that turned out relevant.

    Query q has `seen_items[seen_starts[q]:seen_starts[q + 1]]`, ascending, and likewise relevant ones.
    """

    users: NDArray[np.int32]
    seen_starts: NDArray[np.int64]
    seen_items: NDArray[np.int32]
    relevant_starts: NDArray[np.int64]
    relevant_items: NDArray[np.int32]


def parts(
    users: NDArray[Any],
    times: NDArray[np.int64] | None,
    sequence: NDArray[np.int64],
    split: Split,
    cuts: Sequence[int] = (),
) -> NDArray[np.int8]:
    """`TRAIN`, `VALIDATION` or `TEST` for each event, shape (events,); with more cuts than two, more parts.

    `times` and the rising `cuts` are in microseconds since 1970; a temporal split needs them.
    For a given split the test events must not be among these.  Raises `BadData` without times or cuts.
    """
    if isinstance(split, TemporalSplit):
        if times is None or not len(cuts):
            raise BadData(f"split temporal: found times {times is not None}, cuts {cuts}, expected both")
        return np.searchsorted(np.array(cuts), times, side="right").astype(np.int8)
    from_end, count = _places(users, times, sequence)
    found = np.zeros(len(users), np.int8)
    if isinstance(split, GivenSplit):
        found[(from_end == 0) & (count >= 2)] = VALIDATION
        return found
    found[(from_end == 1) & (count >= 3)] = VALIDATION
    found[(from_end == 0) & (count >= 3)] = TEST
    return found


def queries(users: NDArray[Any], items: NDArray[Any], part: NDArray[np.int8], upto: int) -> Queries:
    """What is asked in the part `upto`, `VALIDATION` or `TEST`, with all that came before as history.

    Asked are the users with an event before and a relevant item: one of the part not seen before.
    """
    width = int(items.max(initial=0)) + 1
    keys = users.astype(np.int64) * width + items
    seen, had = _distinct(keys[part < upto]), _distinct(keys[part == upto])
    relevant = np.setdiff1d(had, seen, assume_unique=True)
    asked = np.intersect1d(seen // width, relevant // width)
    return Queries(asked.astype(np.int32), *_rows(seen, asked, width), *_rows(relevant, asked, width))


def _distinct(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The `keys` (0 or more), ascending; `np.unique` hashes, 40 times as long where millions differ."""
    ordered = np.sort(keys)
    found: NDArray[np.int64] = ordered[np.diff(ordered, prepend=-1) != 0]
    return found


def _places(
    users: NDArray[Any], times: NDArray[np.int64] | None, sequence: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many events of its user follow each event, and how many the user has."""
    keys = (sequence, users) if times is None else (sequence, times, users)
    order = np.lexsort(keys)
    _, where, counts = np.unique(users, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    from_end = np.empty(len(users), np.int64)
    from_end[order] = ends[where[order]] - 1 - np.arange(len(users))
    return from_end, counts[where]


def _rows(
    keys: NDArray[np.int64], asked: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Starts and items of the `asked` users' part of ascending `keys`."""
    kept = keys[np.isin(keys // width, asked)]
    starts = np.searchsorted(kept // width, asked)
    return np.append(starts, len(kept)).astype(np.int64), (kept % width).astype(np.int32)
