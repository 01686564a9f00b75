"""Histograms as words: one integer gradient sum and one row count share a field, fields share a word.

A cell of c rows, each with |gradient| <= 2^b, fits a signed field of 1 + b + 2 len(c) bits, where len(c)
is the bit length of c: the value is gradient * 2^len(c) + count.  The root's histogram goes one cell a
word, for c = all rows.  Its totals are opened to all, and no cell of the same tree can later hold more
rows than at the root: so from then on each cell has the narrowest field that cannot overflow, and a word
as many fields as fit.  That bounds the sum; a participant's own cell has no more rows than the sum's.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from federation.errors import Refused
from recommenders.compiled import compiled

Cells = NDArray[np.float64]
Words = NDArray[np.int64]

ROW = 1024.0
"""The hessian of a row: constant, so that LightGBM counts rows, and far above the 1e-15 that it adds."""

_UNITS = 1.5 * 2.0**52
"""Floats beside it are whole numbers, one bit pattern apart."""
_UNITS_BITS = int(np.float64(_UNITS).view(np.int64))


class Layout(NamedTuple):
    """Where each cell's field lies (its word, the bits below it) and how wide its count is."""

    word: NDArray[np.int32]
    below: NDArray[np.uint8]
    count_bits: NDArray[np.uint8]
    gradient_bits: int
    words: int

    def part(self, first: int, cells: int) -> slice:
        """The words that hold `cells` cells from `first` on."""
        if not cells:
            return slice(0, 0)
        return slice(int(self.word[first]), int(self.word[first + cells - 1]) + 1)


def check_width(gradient_bits: int, rows: int) -> None:
    """Raise `Refused` where a cell of all rows would not fit a word."""
    needed = 1 + gradient_bits + 2 * rows.bit_length()
    if needed > 64:
        raise Refused(
            f"a cell needs {needed} bits, a word has 64: {gradient_bits} of a gradient, "
            f"{rows.bit_length()} twice for {rows} rows, 1 sign; choose a gradient_bits smaller by "
            f"{needed - 64}"
        )


def wide(cells: int, rows: int, gradient_bits: int) -> Layout:
    """One cell a word, for cells of up to `rows` rows."""
    counts = np.full(cells, rows.bit_length(), np.uint8)
    return Layout(np.arange(cells, dtype=np.int32), np.zeros(cells, np.uint8), counts, gradient_bits, cells)


def narrow(totals: Cells, starts: NDArray[np.int64], gradient_bits: int) -> Layout:
    """The layout that the root's opened `totals` (2 * cells,) allow; a word never crosses `starts`."""
    word = np.empty(len(totals) // 2, np.int32)
    below, bits = np.empty(len(word), np.uint8), np.empty(len(word), np.uint8)
    words = _place(totals, starts, gradient_bits, word, below, bits)
    return Layout(word, below, bits, gradient_bits, words)


def pack(cells: Cells, layout: Layout) -> Words:
    """The words of a histogram (2 * cells,) of gradient sums and hessians in turn.

    Raises `Refused` where a cell holds something else than whole gradients and rows, or does not fit.
    """
    words = np.zeros(layout.words, np.int64)
    if not _pack(cells, layout.word, layout.below, layout.count_bits, layout.gradient_bits, words):
        raise Refused("a cell of a histogram does not fit its field")
    return words


def unpack(words: Words, layout: Layout, first: int, cells: Cells) -> None:
    """Write to `cells` those from `first` on of the histogram that a sum of packed words stands for.

    `words` are those from the one of cell `first` on.
    """
    cut, bits = slice(first, first + len(cells) // 2), layout.gradient_bits
    _unpack(words, layout.word[cut], layout.below[cut], layout.count_bits[cut], bits, cells)


@compiled
def _place(
    totals: Cells,
    starts: NDArray[np.int64],
    gradient_bits: int,
    word: NDArray[np.int32],
    below: NDArray[np.uint8],
    bits: NDArray[np.uint8],
) -> int:
    current, used, block = 0, 0, 0
    for cell in range(len(word)):
        count, length = int(totals[2 * cell + 1] / 1024.0), 0
        while count >> length:
            length += 1
        width = 0 if length == 0 else 1 + gradient_bits + 2 * length
        fresh = block < len(starts) and starts[block] == cell
        while block < len(starts) and starts[block] <= cell:
            block += 1
        if (fresh and cell > 0) or used + width > 64:
            current, used = current + 1, 0
        word[cell], below[cell], bits[cell] = current, used if width else 0, length  # no shift by 64
        used += width
    return current + 1


@compiled
def _whole(number: float) -> int:
    """The integer that `number` is, where it is one below 2^51; else one from 2^51 on, or any for a fraction.

    By its bits: the processor's own conversion takes one number at a time.
    """
    return int(np.float64(number + _UNITS).view(np.int64) - _UNITS_BITS)


@compiled
def _pack(
    cells: Cells,
    word: NDArray[np.int32],
    below: NDArray[np.uint8],
    bits: NDArray[np.uint8],
    gradient_bits: int,
    words: Words,
) -> bool:
    """Two loops: the processor does the first for several cells at once."""
    wrong, fields = np.int64(0), np.empty(len(word), np.int64)
    largest = float(np.int64(1) << gradient_bits)
    for cell in range(len(word)):
        g, rows = cells[2 * cell], cells[2 * cell + 1] * (1.0 / 1024.0)
        gradient, count, length = _whole(g), _whole(rows), np.int64(bits[cell])
        wrong |= np.int64(np.rint(g) != g) | np.int64(np.rint(rows) != rows) | (count >> length)
        wrong |= np.int64(abs(g) > rows * largest)
        fields[cell] = ((gradient << length) + count) << np.int64(below[cell])
    total, last = np.int64(0), np.int32(0)
    for cell in range(len(word)):
        total = fields[cell] + (total if word[cell] == last else np.int64(0))
        last = word[cell]
        words[last] = total
    return bool(wrong == 0)


@compiled
def _unpack(
    words: Words,
    word: NDArray[np.int32],
    below: NDArray[np.uint8],
    bits: NDArray[np.uint8],
    gradient_bits: int,
    cells: Cells,
) -> None:
    """A field lacks 1 where what lies below it in the word is negative."""
    for cell in range(len(word)):
        length, lower = np.int64(bits[cell]), np.int64(below[cell])
        rest = words[word[cell] - word[0]]
        borrowed = (rest >> (lower - 1)) & 1 if lower else np.int64(0)
        above = 63 - gradient_bits - 2 * length
        value = (((rest >> lower) + borrowed) << above) >> above if length else np.int64(0)
        count = value & ((np.int64(1) << length) - 1)
        cells[2 * cell] = float((value - count) >> length)
        cells[2 * cell + 1] = count * 1024.0
