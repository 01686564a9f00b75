"""What the participants agreed on before a run; each one holds its own copy and checks against it."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from federation.durations import Seconds
from federation.frozen import Frozen


class RoundPolicy(Frozen):
    """When a round is worth it, when its sum may be opened, and what a loss means."""

    quorum: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.5, description="part of the invited participants that a round needs to be worth it"
    )
    minimum: Annotated[int, Field(ge=2)] = Field(
        default=3, description="smallest cohort whose sum may be opened"
    )
    agreed_to_two: bool = Field(
        default=False, description="every participant agreed to sums of two, where each can subtract itself"
    )
    deadline_seconds: Seconds = Field(
        default=600.0, description="seconds that one attempt of a round may take"
    )
    ready_seconds: Seconds = Field(
        default=60.0, description="seconds that a participant may take to start and say that it is ready"
    )
    masks: bool = Field(default=True, description="pairwise masks, so that the aggregator sees only sums")
    on_loss: Literal["wait", "continue"] = Field(
        default="wait",
        description="after a sum was opened: wait for who is missing, or (where every participant agreed "
        "to be exposed by the difference of two sums) continue with the rest",
    )

    @model_validator(mode="after")
    def _two_only_where_agreed(self) -> "RoundPolicy":
        if self.minimum < 3 and not self.agreed_to_two:
            raise ValueError("minimum is below 3: sums of two need agreed_to_two = true")
        return self

    def needed(self, invited: int) -> int:
        """How many of `invited` participants a round needs: the quorum's part, and the minimum."""
        return max(self.minimum, math.ceil(self.quorum * invited - 1e-9))
