"""When a deployment runs: an interval with its anchor, or a cron line; as a person types and reads it."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator, model_validator

from federation.durations import LONGEST_DAYS
from federation.errors import BadInput
from federation.frozen import Frozen

if TYPE_CHECKING:
    from prefect.client.schemas.schedules import SCHEDULE_TYPES

SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
INTERVAL = re.compile(r"(\d+(?:\.\d+)?)([wdhms])")
CRON_FIELDS = 5
SHORTEST_SECONDS = 60
"""Of an interval that a person types, as of a cron line: more often hardly any run ends before the next."""
LONGEST_SECONDS = LONGEST_DAYS * 86_400
"""Beyond some thousands of years the next time of a schedule is no date any more."""


class Timing(Frozen):
    """One schedule: every so many seconds counted from an anchor, or a line of cron or RRULE."""

    seconds: Annotated[float, Field(ge=1, le=LONGEST_SECONDS)] | None = None
    anchor: datetime | None = None
    cron: str | None = None
    rrule: str | None = None
    timezone: str | None = None

    @field_validator("seconds")
    @classmethod
    def _whole_microseconds(cls, seconds: float | None) -> float | None:
        """As Prefect keeps them, so that what is read back from it is equal."""
        return None if seconds is None else timedelta(seconds=seconds).total_seconds()

    @model_validator(mode="after")
    def _one_kind(self) -> "Timing":
        if sum(kind is not None for kind in (self.seconds, self.cron, self.rrule)) != 1:
            raise ValueError("expected one of seconds, cron and rrule")
        if (self.seconds is None) != (self.anchor is None):
            raise ValueError("an interval, and nothing else, has an anchor")
        return self

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"every {interval_text(self.seconds)}"
        zone = f" ({self.timezone})" if self.timezone not in (None, "UTC") else ""
        return f"at {self.cron or self.rrule}{zone}"

    def names(self, moment: datetime) -> bool:
        """Whether a run at `moment` can be of this schedule; of cron and RRULE that is not checked."""
        if self.seconds is None or self.anchor is None:
            return True
        off = (moment - self.anchor).total_seconds() % self.seconds
        return min(off, self.seconds - off) < 1e-3

    def schedule(self) -> "SCHEDULE_TYPES":
        """The same as Prefect has it."""
        from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

        if self.seconds is not None:
            return IntervalSchedule(interval=timedelta(seconds=self.seconds), anchor_date=self.anchor)
        if self.cron is not None:
            return CronSchedule(cron=self.cron, timezone=self.timezone)
        return RRuleSchedule(rrule=self.rrule or "", timezone=self.timezone)


def parse_timing(text: str, anchor: datetime, timezone: str = "UTC") -> Timing:
    """The schedule that `text` says: an interval such as 1d, 6h or 1d12h, or a cron line of five fields.

    Raises `BadInput` for anything else.
    """
    if len(text.split()) == CRON_FIELDS:
        return Timing(cron=_cron(text), timezone=timezone)
    pieces = INTERVAL.findall(text)
    seconds = sum(float(number) * SECONDS[unit] for number, unit in pieces)
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        raise BadInput(
            f"schedule: found {text!r}, expected an interval such as 1d, 6h or 30m, or a cron line"
        )
    if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise BadInput(f"schedule: found {text!r}, expected an interval from 1m to a hundred years")
    return Timing(seconds=seconds, anchor=anchor)


def interval_text(seconds: float) -> str:
    """A number of seconds in the units that `parse_timing` reads, as 1d12h."""
    text, left = "", round(seconds, 3)
    for unit, size in SECONDS.items():
        if unit != "w" and left >= size:
            count, left = divmod(left, size)
            text += f"{int(count)}{unit}"
    return text or f"{left:g}s"


def read_timing(schedule: Any) -> Timing:
    """What Prefect's schedule says; `seconds` and `anchor` in UTC."""
    if hasattr(schedule, "interval"):
        anchor = datetime.fromisoformat(schedule.anchor_date.isoformat()).astimezone(UTC)
        return Timing(seconds=schedule.interval.total_seconds(), anchor=anchor)
    if hasattr(schedule, "cron"):
        return Timing(cron=schedule.cron, timezone=schedule.timezone)
    return Timing(rrule=schedule.rrule, timezone=schedule.timezone)


def _cron(text: str) -> str:
    """The line as it is, where it names a moment to come: Prefect's server fails at one that names none."""
    from prefect._vendor.croniter import croniter
    from prefect.client.schemas.schedules import CronSchedule

    try:
        croniter(text).get_next()
        return CronSchedule(cron=text).cron
    except ValueError:
        raise BadInput(f"schedule: found {text!r}, expected a cron line such as '0 3 * * 1'") from None
