"""A participant's one door while a round is under way."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from federation.fixed_point import FixedPoint

Vector = NDArray[Any]


class Channel(Protocol):
    """What a participant may say (a term of a named sum) and what it may hear (sums that were opened)."""

    @property
    def name(self) -> str:
        """The participant whose channel it is."""
        ...

    @property
    def cohort(self) -> tuple[str, ...]:
        """Whose terms are in the sums, in order; itself among them."""
        ...

    def sum(self, name: str, vector: Vector, form: FixedPoint, part: slice | None = None) -> Vector:
        """Add `vector` to the sum `name` over the cohort; returns the opened total, decoded by `form`.

        Of the total only `part` travels to this participant, where it is given.  Every participant of the
        cohort calls it with the same names in the same order, the same length and the same form.  Raises
        `Refused` for a vector that `form` cannot carry, `Lost` when the sum cannot be finished.
        """
        ...

    def read(self, name: str) -> Vector:
        """A total that was opened earlier in this run, as the coordinator keeps it, by `round/name`."""
        ...


class Solo:
    """The channel of a cohort of one, for training alone or on pooled rows: the same rounding, no travel."""

    name = "solo"
    cohort = ("solo",)

    def __init__(self) -> None:
        self._opened: dict[str, Vector] = {}

    def sum(self, name: str, vector: Vector, form: FixedPoint, part: slice | None = None) -> Vector:
        """The vector itself, after its way through the fixed point."""
        self._opened[name] = form.decode(form.encode(np.asarray(vector)))
        return self._opened[name][part or slice(None)]

    def read(self, name: str) -> Vector:
        """A total that was opened earlier."""
        return self._opened[name]
