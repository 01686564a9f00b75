"""What is training, validation and test, and who is asked.

`temporal` cuts all participants at the same moments, so nothing of the future is learned (Meng et al.
2020); `leave-last-out` is for comparison with published tables only: it lets a model see other users'
future; `given` takes test events from files of their own.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

TRAIN, VALIDATION, TEST = 0, 1, 2
FEWEST = 3
"""Users with fewer events only train when their last ones are withheld."""


class TemporalSplit(BaseModel):
    """Train before the first cut, validation before the second, test after it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["temporal"] = "temporal"
    cuts: tuple[datetime, datetime] | None = Field(
        default=None, description="the two moments; none: quantiles of all events' times"
    )
    validation: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.8, description="share of all events before validation begins, where no cuts are given"
    )
    test: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.9, description="share of all events before the test begins, where no cuts are given"
    )

    @field_validator("cuts")
    @classmethod
    def _in_utc(cls, cuts: tuple[datetime, datetime] | None) -> tuple[datetime, datetime] | None:
        if cuts is None:
            return None
        first, second = (cut.replace(tzinfo=cut.tzinfo or UTC).astimezone(UTC) for cut in cuts)
        return first, second

    @model_validator(mode="after")
    def _in_order(self) -> "TemporalSplit":
        if self.cuts is not None and self.cuts[0] >= self.cuts[1]:
            raise ValueError(f"the first cut, {self.cuts[0]}, is not before the second, {self.cuts[1]}")
        if self.validation >= self.test:
            raise ValueError(f"validation begins at {self.validation}, not before the test at {self.test}")
        return self


class LeaveLastOut(BaseModel):
    """Each user's last event is its test, the one before its validation; ties keep file order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["leave-last-out"] = "leave-last-out"


class GivenSplit(BaseModel):
    """Test events lie in files of their own; each user's last other event is its validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["given"] = "given"


Split = Annotated[TemporalSplit | LeaveLastOut | GivenSplit, Field(discriminator="kind")]


@dataclass(frozen=True)
class Asked:
    """The users that are asked in a part, what each had seen before, and what it then had anew.

    Query q has `seen_items[seen_starts[q]:seen_starts[q + 1]]`, ascending, and likewise for relevant ones.
    """

    users: NDArray[np.int32]
    seen_starts: NDArray[np.int64]
    seen_items: NDArray[np.int32]
    relevant_starts: NDArray[np.int64]
    relevant_items: NDArray[np.int32]


def parts(
    users: NDArray[np.int32],
    times: NDArray[np.int64],
    order: NDArray[np.int64],
    split: TemporalSplit | LeaveLastOut | GivenSplit,
    cuts: tuple[int, ...] | None,
) -> NDArray[np.int8]:
    """TRAIN, VALIDATION or TEST for each event; `times` and `cuts` in microseconds, `order` breaks ties."""
    if split.kind == "temporal":
        if cuts is None or len(cuts) != 2:
            raise ValueError(f"found cuts {cuts}, expected two moments")
        return np.searchsorted(np.array(cuts), times, side="right").astype(np.int8)
    ranks, counts = _from_the_end(users, times, order)
    if split.kind == "given":
        return np.where((ranks == 0) & (counts > 1), VALIDATION, TRAIN).astype(np.int8)
    return np.where(counts < FEWEST, TRAIN, np.maximum(TEST - ranks, TRAIN)).astype(np.int8)


def queries(
    users: NDArray[np.int32], items: NDArray[np.int32], part: NDArray[np.int8], asked: int
) -> Asked:
    """Users with an event before the part `asked` and an item in it that they had not had before."""
    width = int(items.max(initial=0)) + 1
    pairs = users.astype(np.int64) * width + items
    before = np.unique(pairs[part < asked])
    anew = np.setdiff1d(pairs[part == asked], before)
    who = np.intersect1d(before // width, anew // width)
    seen, relevant = (pairs[np.isin(pairs // width, who)] for pairs in (before, anew))
    return Asked(
        who.astype(np.int32),
        _starts(seen // width, who),
        (seen % width).astype(np.int32),
        _starts(relevant // width, who),
        (relevant % width).astype(np.int32),
    )


def _from_the_end(
    users: NDArray[np.int32], times: NDArray[np.int64], order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each event: how many of its user's come after it, and how many the user has."""
    sorted_rows = np.lexsort((order, times, users))
    counts = np.bincount(users) if len(users) else np.zeros(0, np.int64)
    ends = np.cumsum(counts)
    ranks = np.empty(len(users), np.int64)
    ranks[sorted_rows] = ends[users[sorted_rows]] - 1 - np.arange(len(users))
    return ranks, counts[users]


def _starts(owners: NDArray[np.int64], who: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.append(np.searchsorted(owners, who), len(owners)).astype(np.int64)
