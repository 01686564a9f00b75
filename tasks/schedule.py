"""What runs on a schedule, and who is told when something is amiss: two sections of `consortium.yaml`."""

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, AwareDatetime, Field, SecretStr, field_validator, model_validator

from feature_store.cleaning import in_utc
from federation.durations import Days, Hours, Seconds
from federation.frozen import Frozen
from tasks.timing import Timing, parse_timing


class ScheduleConfig(Frozen):
    """How often the consortium trains before any policy has decided, and how often the rest is done."""

    cron: str | None = Field(
        None, description="train at these times, as '0 3 * * 1'; none: at the interval of `frequency`"
    )
    timezone: str = Field("UTC", description="zone of the cron line, as Europe/Berlin")
    start_days: Days = Field(
        1.0, description="days between trainings until a policy other than periodic has decided"
    )
    anchor: Annotated[AwareDatetime, AfterValidator(in_utc)] = Field(
        datetime(2026, 1, 1, tzinfo=UTC), description="moment that intervals are counted from"
    )
    always: bool = Field(False, description="train even where there is nothing new to learn from")
    adjust_hours: Hours = Field(6.0, description="hours between two looks of the policy at the history")
    evaluate_hours: Hours = Field(
        24.0, description="hours between two evaluations of the champion on the newest window"
    )
    tidy_hours: Hours = Field(24.0, description="hours between housekeepings")
    keep_runs: Annotated[int, Field(ge=1)] = Field(
        20, description="finished runs whose sums and models are kept, and the champion's"
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, timezone: str) -> str:
        if timezone not in available_timezones():  # Prefect knows these and no other
            raise ValueError("expected a name such as UTC or Europe/Berlin")
        return timezone

    def timing(self, days: float | None) -> Timing:
        """When training runs as configured: by cron, else every `days`, else every `start_days`."""
        if self.cron is not None:
            return parse_timing(self.cron, self.anchor, self.timezone)
        return self.every((days or self.start_days) * 24)

    def every(self, hours: float) -> Timing:
        """An interval on the common grid."""
        return Timing(seconds=hours * 3_600, anchor=self.anchor)


class AlertConfig(Frozen):
    """Whom automations call when a run failed, is late, or went on without somebody."""

    webhook: SecretStr | None = Field(
        None, description="address that gets a JSON message; none: the automations wait for actions of yours"
    )
    late_seconds: Seconds = Field(
        120.0, description="seconds after its time at which a run that has not begun is late (chorus serve)"
    )

    @model_validator(mode="after")
    def _can_be_posted_to(self) -> "AlertConfig":
        """Of the whole section, for what is wrong in a key is repeated, and an address may be a secret."""
        address = self.webhook and self.webhook.get_secret_value()
        if address and not address.startswith(("http://", "https://")):
            raise ValueError("webhook: expected an address such as https://hooks.example/chorus")
        return self
