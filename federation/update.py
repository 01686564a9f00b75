"""What participants say: a term of a sum.  Adding is all that anybody can do with it."""

from dataclasses import dataclass

import numpy as np

from federation.errors import Refused
from federation.fixed_point import Words


@dataclass(frozen=True, eq=False)
class Update:
    """Words in the ring and how many participants' terms are in them; `+` wraps around."""

    words: Words
    terms: int = 1

    def __post_init__(self) -> None:
        if self.words.dtype.kind != "u" or self.words.ndim != 1:
            raise Refused(f"expected a vector of unsigned words, found {self.words.dtype} {self.words.shape}")
        if self.terms < 1:
            raise Refused(f"an update has at least one term, this has {self.terms}")
        frozen = self.words.view()
        frozen.flags.writeable = False
        object.__setattr__(self, "words", frozen)

    def __add__(self, other: "Update") -> "Update":
        if (self.words.dtype, self.words.size) != (other.words.dtype, other.words.size):
            raise Refused(
                f"{other.words.size} words of {other.words.dtype} cannot be added "
                f"to {self.words.size} of {self.words.dtype}"
            )
        return Update(np.add(self.words, other.words), self.terms + other.terms)

    def __repr__(self) -> str:
        return f"Update({self.words.size} words of {self.words.dtype}, terms={self.terms})"
