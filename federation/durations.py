"""Durations that a configuration may name: at most a hundred years, so that they can be added to any date."""

from typing import Annotated

from pydantic import Field

DAY = 86_400.0
"""Seconds of a day."""

LONGEST_DAYS = 36_525
Seconds = Annotated[float, Field(gt=0, le=LONGEST_DAYS * DAY)]
Hours = Annotated[float, Field(ge=0.001, le=LONGEST_DAYS * 24)]
Days = Annotated[float, Field(ge=0.0001, le=LONGEST_DAYS)]
"""As hours no shorter than the second that is the shortest interval of a schedule."""
