"""Which events are kept, and how many fell to which rule.

Rules that look at one event (`faults`) run batch by batch.  Those that compare events (`repeated`,
`crowded`) see a slice: all events of some days, or of some users in a day that is too large, so
that no two events which they would compare lie in different slices.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from feature_store.errors import BadData

NO_TIME = np.iinfo(np.int64).min  # stands for null among instants in microseconds
HOUR = 3_600 * 10**6
DAY = 24 * HOUR
"""In microseconds, as all times here."""
_SIEVE = np.uint64(1 << 20)
_FAULTS = ("missing_id", "missing_time", "impossible_time", "missing_value", "value_out_of_range")


class CleaningRules(BaseModel):
    """What is done with events that cannot be right."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    missing_ids: Literal["drop", "refuse"] = Field(
        default="drop", description="events without user or item: drop them, or stop"
    )
    missing_values: Literal["drop", "keep"] = Field(
        default="drop", description="events whose value is empty or no number, where the source maps values"
    )
    earliest: datetime | None = Field(
        default=datetime(1970, 1, 2, tzinfo=UTC),
        description="events before it are dropped: by default the zero of the epoch",
    )
    latest: datetime | None = Field(default=None, description="events after it are dropped")
    future_hours: float | None = Field(
        default=24.0,
        ge=0,
        le=876_600,  # a hundred years: so that they can be added to any date
        description="events later than this after the import began are dropped; none: the future is allowed",
    )
    lowest: FiniteFloat | None = Field(default=None, description="events with a smaller value are dropped")
    highest: FiniteFloat | None = Field(default=None, description="events with a larger value are dropped")
    duplicates: Literal["drop", "keep"] = Field(
        default="drop", description="events with the user, item, time and value of an earlier one"
    )
    bot_events_per_hour: int | None = Field(
        default=None,
        ge=1,
        description="hours in which a user has more events are dropped whole for that user",
    )
    bot_events_per_day: int | None = Field(
        default=5000,
        ge=1,
        description="days (UTC) in which a user has more events are dropped whole for that user",
    )


class CleaningReport(BaseModel):
    """How many rows were read, kept, and fell to each rule; an event counts for the first that it breaks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows_read: int = Field(default=0, ge=0, description="rows in the file")
    kept: int = Field(default=0, ge=0, description="rows that became events")
    missing_id: int = Field(
        default=0, ge=0, description="rows without user or item, torn lines and items of two lines among them"
    )
    missing_time: int = Field(
        default=0, ge=0, description="rows whose time is empty, or whose time or known_time cannot be read"
    )
    impossible_time: int = Field(
        default=0, ge=0, description="rows before the earliest or after the latest time"
    )
    missing_value: int = Field(default=0, ge=0, description="rows whose value is empty or no number")
    value_out_of_range: int = Field(
        default=0, ge=0, description="rows whose value is infinite, too small or too large"
    )
    duplicate: int = Field(default=0, ge=0, description="rows that repeat an earlier event")
    bot: int = Field(default=0, ge=0, description="rows of a user with too many in that hour or day")

    @model_validator(mode="after")
    def _adds_up(self) -> "CleaningReport":
        if self.rows_read != self.kept + self.dropped:
            raise ValueError(f"{self.rows_read} rows read, but {self.kept} kept and {self.dropped} dropped")
        return self

    def __add__(self, other: "CleaningReport") -> "CleaningReport":
        return CleaningReport(
            **{name: getattr(self, name) + getattr(other, name) for name in CleaningReport.model_fields}
        )

    @property
    def dropped(self) -> int:
        """Rows that fell to any rule."""
        return sum(getattr(self, name) for name in (*_FAULTS, "duplicate", "bot"))

    @property
    def quality(self) -> float:
        """Kept rows as a share of those read; 1 where none were read."""
        return self.kept / self.rows_read if self.rows_read else 1.0


class Keys(NamedTuple):
    """What makes two events the same; users and items as codes of one dictionary, -1 for an unknown item."""

    time: NDArray[np.int64]
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    value: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> "Keys":
        """The keys of `rows`."""
        return Keys(self.time[rows], self.user[rows], self.item[rows], self.value[rows])


def joined(*keys: Keys) -> Keys:
    """The events of `keys`, one after the other."""
    return Keys(*(np.concatenate([each[place] for each in keys]) for place in range(4)))


def bounds(rules: CleaningRules, now: datetime) -> tuple[int, int]:
    """The earliest and latest possible time in microseconds since 1970, for an import that began at `now`.

    Neither is ever beyond the years 1 to 9999, which are all that a date can say.
    """
    earliest = datetime.min, rules.earliest or datetime.min
    latest = [datetime.max, rules.latest or datetime.max]
    if rules.future_hours is not None:
        latest.append(now + timedelta(hours=rules.future_hours))
    return max(map(microseconds, earliest)), min(map(microseconds, latest))


def in_utc(time: datetime) -> datetime:
    """The same moment in UTC, where a time without zone is; raises `ValueError` where no date can say it."""
    try:
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("expected a time within the years 1 to 9999 of UTC") from None


def microseconds(time: datetime) -> int:
    """Microseconds since 1970; a time without zone is in UTC."""
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1)


def faults(
    events: pa.RecordBatch,
    times: NDArray[np.int64],
    rules: CleaningRules,
    span: tuple[int, int],
    mapped: set[str],
    place: str,
) -> NDArray[np.uint8]:
    """For each event 0, or the number of the rule that it breaks on its own, as `fault_counts` knows it.

    `times` are microseconds, `span` is what `bounds` gave, `mapped` the fields that the source has.  Raises
    `BadData`, naming `place`, where rule missing_ids says so.
    """
    missing = _nulls(events["user"]) | _nulls(events["item"])
    if rules.missing_ids == "refuse" and missing.any():
        raise BadData(
            f"{place}: found {missing.sum()} rows without user or item, "
            "expected none (rule missing_ids: refuse)"
        )
    fault = missing.astype(np.uint8)
    if "time" in mapped:
        _mark(fault, 2, times == NO_TIME)
        _mark(fault, 3, (times < span[0]) | (times > span[1]))
    if "value" in mapped:
        value = events["value"].to_numpy(zero_copy_only=False)
        if rules.missing_values == "drop":
            _mark(fault, 4, np.isnan(value))
        low = -np.finfo(np.float64).max if rules.lowest is None else rules.lowest
        high = np.finfo(np.float64).max if rules.highest is None else rules.highest
        _mark(fault, 5, (value < low) | (value > high))
    return fault


def fault_counts(fault: NDArray[np.uint8]) -> dict[str, int]:
    """Events by the rule that they break on their own, rules without one left out."""
    counts = np.bincount(fault, minlength=len(_FAULTS) + 1)[1:]
    return {rule: int(count) for rule, count in zip(_FAULTS, counts, strict=True) if count}


def repeated(new: Keys, older: Keys) -> NDArray[np.bool_]:
    """Which events of `new` equal one of `older` or an earlier one of `new`; nulls equal nulls."""
    found = np.zeros(len(new.time), bool)
    time, user, item, value = joined(older, new)
    bits = (value + 0.0).view(np.int64)  # -0.0 is 0.0
    mixed = _mix(time, user, item, bits)
    ordered = np.sort(mixed)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return found
    sieve = np.zeros(_SIEVE, bool)  # equal events mix equally; the few others that pass are told apart below
    sieve[twice % _SIEVE] = True
    suspects = np.flatnonzero(sieve[mixed % _SIEVE])
    suspects = suspects[np.lexsort([key[suspects] for key in (bits, item, user, time)])]
    same = np.ones(len(suspects) - 1, bool)
    for key in (time, user, item, bits):
        same &= key[suspects[1:]] == key[suspects[:-1]]
    repeats = suspects[1:][same] - len(older.time)
    found[repeats[repeats >= 0]] = True
    return found


def crowded(new: Keys, older: Keys, window: int, limit: int | None) -> NDArray[np.bool_]:
    """Which of `new` lie in a `window` (microseconds) where their user has more than `limit` events.

    Events of `older` count, and stay: a file imported in two parts may keep what the first part had.
    """
    crowd = np.zeros(len(older.time) + len(new.time), bool)
    user = np.concatenate([older.user, new.user])
    if limit is not None and len(user) > limit:
        busy = np.flatnonzero((np.bincount(user) > limit)[user])  # few, mostly none
        windows = np.concatenate([older.time, new.time])[busy] // window
        pairs = np.column_stack([windows, user[busy]])
        _, place, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        crowd[busy] = counts[place] > limit
    return crowd[len(older.time) :]


def _mix(*keys: NDArray[np.integer]) -> NDArray[np.uint64]:
    """A 64-bit mix of integer keys (the multiplier and shift of Steele's splitmix64)."""
    mixed = np.zeros(len(keys[0]), np.uint64)
    for key in keys:
        mixed ^= key.astype(np.uint64)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def _nulls(column: pa.Array) -> NDArray[np.bool_]:
    if not column.null_count:
        return np.zeros(len(column), bool)
    return np.asarray(column.is_null())


def _mark(fault: NDArray[np.uint8], number: int, broken: NDArray[np.bool_]) -> None:
    if broken.any():
        fault[broken & (fault == 0)] = number
