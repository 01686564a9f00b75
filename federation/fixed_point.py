"""Numbers as words of the ring mod 2^width, in which every order of adding gives the same bits.

A value v travels as round(v * 2^fraction_bits) in two's complement (Bonawitz et al. 2017, section 7).
`terms` bounds what one participant may say, so that no sum of so many terms can overflow.  Where the caller
knows a bound of the sum itself, `terms` is left out: in the ring only the sum has to fit.
"""

from collections.abc import Iterator
from functools import cache, cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federation.errors import Refused
from federation.frozen import Frozen

Words = NDArray[np.unsignedinteger[Any]]

_WORDS = {width: np.dtype(f"<u{width // 8}") for width in (8, 16, 32, 64)}
_SIGNED = {width: np.dtype(f"<i{width // 8}") for width in (8, 16, 32, 64)}

BLOCK = 1 << 14
"""Values handled at once, so that a block and its scratch stay in the cache."""


class FixedPoint(Frozen):
    """The form of a vector in the ring: how wide, how fine, for how many terms."""

    width: Literal[8, 16, 32, 64] = Field(default=64, description="bits of a ring word")
    fraction_bits: Annotated[int, Field(ge=0, le=64)] = Field(
        default=24, description="bits behind the point; 0 for integers"
    )
    terms: Annotated[int, Field(ge=1)] | None = Field(
        description="most terms that a sum may have; null: the caller has shown that the sum fits a word"
    )
    signed: bool = Field(default=True, description="false: non-negative values that use the whole word")

    @model_validator(mode="after")
    def _room_for_something(self) -> "FixedPoint":
        if self.limit < 1:
            raise ValueError(f"{self.width} bits are too few for {self.terms} terms")
        return self

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The unsigned, little-endian type of a word."""
        return _WORDS[self.width]

    @cached_property
    def limit(self) -> int:
        """The largest magnitude, in units of 2^-fraction_bits, that one participant may say."""
        return _limit(self.width - self.signed, self.terms or 1)

    @property
    def bound(self) -> float:
        """The largest |value| that one participant may say."""
        return _at_most(self.limit) / 2.0**self.fraction_bits

    def carries(self, terms: int) -> bool:
        """Whether a sum of so many terms is within the form."""
        return self.terms is None or terms <= self.terms

    def encode(self, vector: NDArray[Any]) -> Words:
        """The words of a one-dimensional real vector; values are rounded to even.

        Raises `Refused` on another shape or type, on NaN, infinity, a value beyond `bound`, and on a
        fraction where `fraction_bits` is 0.  The message tells positions, never values.  Integers may be the
        same memory as `vector`.
        """
        vector = np.asarray(vector)
        if vector.ndim != 1:
            raise Refused(f"a vector has one dimension, this has shape {vector.shape}")
        if vector.dtype.kind not in "biuf":
            raise Refused(f"expected real numbers, found {vector.dtype}")
        if vector.dtype.kind != "f":
            return self._encode_integers(vector)
        words = np.empty(vector.size, self.dtype)
        scratch = np.empty(min(vector.size, BLOCK))
        for block in _blocks(vector.size):
            units = scratch[: block.stop - block.start]
            self._encode_floats(vector[block], words[block], units, block.start)
        return words

    def decode(self, words: Words) -> NDArray[Any]:
        """The vector of `words`: float64, or integers (int64; uint64 if not signed and 64 wide).

        Integers may be the same memory as `words`.
        """
        if words.dtype != self.dtype:
            raise Refused(f"expected words of {self.dtype}, found {words.dtype}")
        numbers = self._numbers(words)
        if self.fraction_bits:
            return numbers * np.float64(2.0**-self.fraction_bits)
        return numbers.astype(np.int64 if self.signed or self.width < 64 else np.uint64, copy=False)

    @cached_property
    def _number(self) -> np.dtype[Any]:
        """The type of a word's number: two's complement where the form is signed."""
        return _SIGNED[self.width] if self.signed else _WORDS[self.width]

    def _numbers(self, words: Words) -> NDArray[Any]:
        """The same memory as numbers."""
        return words.view(self._number)

    def _encode_floats(self, values: NDArray[Any], out: Words, units: NDArray[Any], start: int) -> None:
        with np.errstate(over="ignore"):
            np.multiply(values, 2.0**self.fraction_bits, out=units, dtype=np.float64)
        np.rint(units, out=units)
        most = _at_most(self.limit)
        if not (units.min() >= (-most if self.signed else 0) and units.max() <= most):
            raise self._refusal(values, units, start)
        if self.fraction_bits == 0 and not np.array_equal(units, values):
            raise Refused(f"value {start + int(np.argmax(units != values))} is not an integer")
        np.copyto(self._numbers(out), units, casting="unsafe")

    def _encode_integers(self, values: NDArray[Any]) -> Words:
        if self.terms is None and self.fraction_bits == 0 and values.dtype == self._number:
            return values.view(self.dtype)
        most = self.limit >> self.fraction_bits
        least = -most if self.signed else 0
        if values.size and (int(np.minimum.reduce(values)) < least or int(np.maximum.reduce(values)) > most):
            outside = [not least <= int(value) <= most for value in values]
            raise Refused(f"value {outside.index(True)} is outside [{least}, {most}]")
        words: Words = values.astype(self.dtype)
        return words << self.dtype.type(self.fraction_bits % self.width) if self.fraction_bits else words

    def _refusal(self, values: NDArray[Any], units: NDArray[Any], start: int) -> Refused:
        strange = ~np.isfinite(values)
        if strange.any():
            first = int(np.argmax(strange))
            return Refused(f"value {start + first} is {'NaN' if np.isnan(values[first]) else 'infinite'}")
        most = _at_most(self.limit)
        first = int(np.argmax((units < (-most if self.signed else 0)) | (units > most)))
        return Refused(
            f"value {start + first} is outside [{-self.bound if self.signed else 0.0:g}, {self.bound:g}]"
        )


@cache
def _limit(bits: int, terms: int) -> int:
    return ((1 << bits) - 1) // terms


def _at_most(limit: int) -> float:
    """The largest float that is no larger than `limit`."""
    nearest = float(limit)
    return nearest if int(nearest) <= limit else float(np.nextafter(nearest, 0.0))


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))
