"""What both sides of a round agree on before it begins."""

import hashlib
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator

from federation.frozen import Frozen


class RoundPlan(Frozen):
    """One attempt of one round: who takes part, and until when.

    It holds names of random streams, never keys: what is secret is agreed anew for every attempt.
    """

    run: Annotated[str, Field(min_length=1)]
    number: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(ge=0)] = 0
    cohort: Annotated[tuple[str, ...], Field(min_length=1)]
    deadline_seconds: Annotated[float, Field(gt=0)] = 600.0
    seed: int = 0

    @field_validator("cohort")
    @classmethod
    def _in_order(cls, cohort: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(cohort)) != len(cohort):
            raise ValueError(f"a participant is named twice in {cohort}")
        return tuple(sorted(cohort))

    @cached_property
    def label(self) -> str:
        """`run/number/attempt`, as it stands in every message of this attempt."""
        return f"{self.run}/{self.number}/{self.attempt}"

    def again(self, cohort: tuple[str, ...]) -> "RoundPlan":
        """The next attempt of the same round, among `cohort`."""
        return RoundPlan(**{**self.model_dump(), "cohort": cohort, "attempt": self.attempt + 1})

    def stream(self, *names: str) -> np.random.Generator:
        """A public random stream: the same for the same run seed, round and names, in every attempt."""
        text = "\x1f".join((str(self.seed), str(self.number), *names))
        return np.random.default_rng(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32))
