"""LightGBM's two collectives, reduce-scatter and all-gather, as sums over a channel.

LightGBM's data-parallel learner lets its caller supply them (`LGBM_NetworkInitWithFunctions`).  It asks
for three things: the root's totals, a histogram for each new leaf, and the best splits, each found by the
participant that owns the feature.  Each becomes one named sum; anything else is an error.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel
from federation.errors import Refused
from federation.fixed_point import FixedPoint
from recommenders.histograms import ROW, Cells, Layout, narrow, pack, unpack, wide
from recommenders.wire import ALLGATHER, REDUCE_SCATTER, Bytes, Seat, Wire, known, place

WORDS = FixedPoint(width=64, fraction_bits=0, terms=None)
"""The form of histograms and root totals: no sum of them overflows (`recommenders/histograms.py`)."""

BYTES = FixedPoint(width=8, fraction_bits=0, terms=None, signed=False)
"""The form of slots: all but one participant add 0, so the sum is that one's byte."""


class Collectives:
    """The callbacks of one participant; `bins` is how many each feature has.

    C++ cannot see a Python exception: it is kept, the outputs are zeroed (no split has gain), and
    `check` raises it after the iteration.
    """

    def __init__(
        self, channel: Channel, seat: Seat, wire: Wire, gradient_bits: int, rows: int, bins: Sequence[int]
    ) -> None:
        self._channel, self._seat, self._wire = channel, seat, wire
        self._gradient_bits, self._rows = gradient_bits, rows
        self._bins = np.array(bins, np.int64)
        self._layout: Layout | None = None
        self._owners: list[int] = []
        self._prefix, self._calls = "", 0
        self._error: BaseException | None = None
        self.callbacks = REDUCE_SCATTER(self._reduce_scatter), ALLGATHER(self._allgather)

    def begin(self, tree: int) -> None:
        """Name what follows after tree number `tree`."""
        self._prefix, self._calls, self._layout = f"tree/{tree}", 0, None

    def check(self) -> None:
        """Raise what went wrong since the last check."""
        if self._error is not None:
            raise self._error

    def _name(self, kind: str) -> str:
        self._calls += 1
        return f"{self._prefix}/{kind}/{self._calls}"

    def _guard(self, out: int, size: int, work: Callable[[Bytes], None]) -> None:
        """Let `work` write its answer to the `size` bytes at `out`."""
        answer = _memory(out, size)
        if self._error is None:
            try:
                return work(answer)
            except BaseException as error:
                self._error = error
        answer[:] = 0

    def _reduce_scatter(
        self, source: int, size: int, width: int, start: Any, length: Any, blocks: int, out: int,
        _out_size: int, _reducer: Any,
    ) -> None:  # fmt: skip
        def work(answer: Bytes) -> None:
            if width not in (8, 16) or blocks != self._seat.size or size % 16:
                raise Refused(f"LightGBM asks for a reduce-scatter of {size} bytes in units of {width}")
            cells, own = _memory(source, size).view(np.float64), answer.view(np.float64)
            first = start[self._seat.rank] // 16
            if self._layout is None:
                self._owners = [rank for rank in range(blocks) if length[rank]]
                self._first_histogram(cells, np.array(start[:blocks], np.int64) // 16, first, own)
            else:
                self._later_histogram(cells, self._layout, first, own)

        self._guard(out, length[self._seat.rank], work)

    def _first_histogram(self, cells: Cells, starts: NDArray[np.int64], first: int, own: Cells) -> None:
        """The root's: opened to all, since the layout of the tree's other histograms follows from it."""
        layout, totals = wide(len(cells) // 2, self._rows, self._gradient_bits), np.empty_like(cells)
        words = self._channel.sum(self._name("histogram"), pack(cells, layout), WORDS)
        unpack(words, layout, 0, totals)
        self._layout = narrow(totals, starts, self._gradient_bits)
        own[:] = totals[2 * first : 2 * first + len(own)]

    def _later_histogram(self, cells: Cells, layout: Layout, first: int, own: Cells) -> None:
        """Write to `own` the cohort's cells from `first` on, where this participant looks for splits."""
        if 2 * len(layout.word) != len(cells):
            raise Refused(f"a histogram of {len(cells) // 2} cells in a tree of {len(layout.word)}")
        part = layout.part(first, len(own) // 2)
        words = self._channel.sum(self._name("histogram"), pack(cells, layout), WORDS, part)
        unpack(words, layout, first, own)

    def _allgather(
        self, source: int, size: int, start: Any, length: Any, blocks: int, out: int, out_size: int
    ) -> None:
        def work(answer: Bytes) -> None:
            raw = _memory(source, size)
            if blocks == self._seat.size and size == self._wire.root:
                self._totals(raw, answer)
            elif blocks == self._seat.size and size == self._wire.splits:
                self._splits(raw, answer[: blocks * size].reshape(blocks, size))
            else:
                raise Refused(f"LightGBM asks {blocks} participants for {size} bytes of an unknown kind")

        self._guard(out, out_size, work)

    def _totals(self, raw: Bytes, answer: Bytes) -> None:
        """The consortium's totals in the first slot and zeros in the others: LightGBM adds the slots."""
        wire = self._wire
        gradient = int(raw[wire.gradient_at :][:8].view(np.float64)[0])
        rows = int(raw[wire.rows_at :][:4].view(np.int32)[0])
        total = self._channel.sum(self._name("root"), np.array([gradient, rows]), WORDS)
        answer[:] = 0
        answer[wire.gradient_at :][:8].view(np.float64)[0] = total[0]
        answer[wire.hessian_at :][:8].view(np.float64)[0] = total[1] * ROW
        answer[wire.rows_at :][:4].view(np.int32)[0] = total[1]

    def _splits(self, raw: Bytes, answer: Bytes) -> None:
        """A gather is a sum of slots: everyone adds zeros outside the own one.

        Who owns no feature has no split and no slot, else many participants would pay for each other's; what
        LightGBM reads in its place is the first owner's, since it takes the best of all.
        """
        slots = np.zeros((len(self._owners), len(raw)), np.uint8)
        if self._seat.rank in self._owners:
            place(raw, self._wire.list_at, slots[self._owners.index(self._seat.rank)])
        told = self._channel.sum(self._name("splits"), slots.reshape(-1), BYTES).reshape(slots.shape)
        self._check_splits(told.reshape(-1, len(raw) // 2))
        answer[:] = told[0]
        answer[self._owners] = told

    def _check_splits(self, splits: Bytes) -> None:
        """Raise `Refused` where a split is of no feature or bin: LightGBM would look beyond its memory."""
        if not known(splits, self._wire.bin_at, self._wire.list_at, self._bins):
            raise Refused("a split that somebody told is of no feature or bin of the model")


@lru_cache(maxsize=1024)
def _memory(address: int, size: int) -> Bytes:
    """LightGBM's `size` bytes at `address`, not copied; it comes back to the same few places."""
    memory: Any = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(memory, np.uint8)
