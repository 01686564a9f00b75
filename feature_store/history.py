"""What was known at a moment: the last event, counts and means by key, over events that may come late.

Every event has two clocks (Snodgrass and Ahn 1985): when it happened and when it became known.  Asked
at t, an event counts if both are at or before t.  So it counts from the later of the two until it leaves
the window, or until a correction of it is known: each aggregate is a difference of two sorted logs, and
each question one binary search in a log.

Of events at equal times the last by (event_time, known_time, sequence) is the one that a join finds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numba
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
NEVER = int(np.iinfo(np.int64).max)
_SUM_BITS = 61  # a key's sums of values are integers below 2^61 in its power-of-two unit: exact, in any order


@dataclass(frozen=True)
class Times:
    """When events happened, when they became known (microseconds), and the order in which they came."""

    event: Ints
    known: Ints
    sequence: Ints

    def visible_from(self) -> Ints:
        """The first moment at which each event has happened and is known."""
        return np.maximum(self.event, self.known)

    def replaced_at(self, identity: Ints) -> Ints:
        """When each event gives way to a correction of it, `NEVER` for the last version.

        Events with one `identity` (a code of user and item, say) and one event time are versions of one.
        """
        order = np.lexsort((self.sequence, self.known, self.event, identity))
        same = np.ones(max(len(order) - 1, 0), bool)
        for column in (identity, self.event):
            same &= column[order[1:]] == column[order[:-1]]
        at = np.full(len(order), NEVER)
        at[order[:-1][same]] = self.visible_from()[order[1:][same]]
        return at


class Log:
    """Moments of each key in order: those of key k lie from `starts[k]` to `starts[k + 1]` in `at`."""

    def __init__(self, keys: Ints, at: Ints, key_count: int) -> None:
        self.rows = np.lexsort((at, keys))
        self.at = at[self.rows]
        self.starts = _prefix(np.bincount(keys, minlength=key_count))

    def span(self, keys: Ints, until: Ints) -> tuple[Ints, Ints]:
        """For each asked row, where its key's moments begin and where those up to `until` end."""
        return _search(self.starts, self.at, keys, until)


class History:
    """Events of each key, to be asked for what was known of them at a moment.

    `keys` are codes from 0 below `key_count`; asked codes outside of these, as -1, have no events.
    `replaced_at` (see `Times`) takes events out of counts and means once they are corrected.
    """

    def __init__(
        self,
        keys: NDArray[np.integer],
        key_count: int,
        times: Times,
        replaced_at: Ints | None = None,
        values: NDArray[np.float64] | None = None,
    ) -> None:
        self.times, self.key_count = times, key_count
        self.keys = keys.astype(np.int64)
        self.replaced_at = np.full(len(keys), NEVER) if replaced_at is None else replaced_at
        self.visible_from = times.visible_from()
        self.log = Log(self.keys, self.visible_from, key_count)
        values = np.zeros(len(keys)) if values is None else values
        self.shift, self.units, self.valued = _as_integers(values, self.keys, key_count)
        self._ends: dict[int | None, _Ends] = {}

    def ask(self, keys: NDArray[np.integer], at: Ints) -> "Asked":
        """The answers for rows of (key, moment in microseconds), one a row in their order."""
        return Asked(self, keys.astype(np.int64), at.astype(np.int64))

    def ends(self, window: int | None) -> "_Ends":
        """Events by the moment at which they stop counting in a window of that many microseconds."""
        if window not in self._ends:
            leave = self.replaced_at
            if window is not None:
                leave = np.minimum(leave, self.times.event + window)
            left = np.flatnonzero(leave < NEVER)
            log = Log(self.keys[left], np.maximum(leave, self.visible_from)[left], self.key_count)
            rows = left[log.rows]
            self._ends[window] = _Ends(log, (_prefix(self.units[rows]), _prefix(self.valued[rows])))
        return self._ends[window]

    @cached_property
    def newest(self) -> Ints:
        """For each position of the log, the row that a join finds when the log was read up to it."""
        times = self.times
        return self._winners(np.lexsort((times.sequence, times.known, times.event, self.keys)))

    @cached_property
    def oldest(self) -> Ints:
        """For each position of the log, the row of the earliest event so far."""
        return self._winners(np.lexsort((-self.times.event, self.keys)))

    @cached_property
    def totals(self) -> tuple[Ints, Ints]:
        """Sums of values, in units, and of how many there are, before each position of the log."""
        return _prefix(self.units[self.log.rows]), _prefix(self.valued[self.log.rows])

    def _winners(self, order: Ints) -> Ints:
        """At each position of the log, which row so far in its key stands last in `order`."""
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return order[np.maximum.accumulate(rank[self.log.rows])]


@dataclass(frozen=True)
class _Ends:
    log: Log
    totals: tuple[Ints, Ints]


class Asked:
    """Answers of a `History` for rows of keys and moments; each method gives one value a row."""

    def __init__(self, history: History, keys: Ints, at: Ints) -> None:
        self.history, self.keys, self.at = history, keys, at
        self.first, self.last = history.log.span(keys, at)
        self.some = self.last > self.first
        self._ended: dict[int | None, tuple[Ints, Ints]] = {}

    def newest(self, max_age: int | None = None) -> Ints:
        """The row of the latest event, -1 where there is none, or none of at most `max_age` microseconds."""
        return self._row(self.history.newest, max_age)

    def oldest(self) -> Ints:
        """The row of the earliest event, -1 where there is none."""
        return self._row(self.history.oldest, None)

    def counts(self, window: int | None = None) -> Ints:
        """How many events there were; with a `window` in microseconds, those with t - window < e <= t."""
        ended_from, ended = self.ended(window)
        return self.last - self.first - (ended - ended_from)

    def means(self, window: int | None = None) -> NDArray[np.float64]:
        """The mean value of the same events, NaN where none has a value."""
        total, valued = _between(self.history.totals, self.first, self.last)
        ends = self.history.ends(window)
        if len(ends.log.at):
            gone = _between(ends.totals, *self.ended(window))
            total, valued = total - gone[0], valued - gone[1]
        mean = total.astype(np.float64) / np.where(valued > 0, valued, np.nan)
        shift = self.history.shift[np.clip(self.keys, -1, self.history.key_count)]
        return np.asarray(np.ldexp(mean, -shift))

    def ended(self, window: int | None) -> tuple[Ints, Ints]:
        """Positions, in the history's `ends`, from and up to which events count no more."""
        if window not in self._ended:
            log = self.history.ends(window).log
            self._ended[window] = log.span(self.keys, self.at) if len(log.at) else (self.first, self.first)
        return self._ended[window]

    def _row(self, winners: Ints, max_age: int | None) -> Ints:
        rows = np.full(len(self.at), -1, np.int64)
        rows[self.some] = winners[self.last[self.some] - 1]
        if max_age is not None:
            stale = self.at[self.some] - self.history.times.event[rows[self.some]] > max_age
            rows[np.flatnonzero(self.some)[stale]] = -1
        return rows


def _as_integers(values: NDArray[np.float64], keys: Ints, key_count: int) -> tuple[Ints, Ints, Ints]:
    """The shift of each key (and of none, last), values in units of 2^-shift, and 1 for each that is there.

    Each key has a unit of its own: else one value of 1e18 would make everybody's 4.5 a 0.
    """
    valued = np.isfinite(values)
    present = np.where(valued, values, 0.0)
    largest = np.zeros(key_count + 1)
    np.maximum.at(largest, keys, np.abs(present))
    counts = np.bincount(keys, minlength=key_count + 1).astype(np.float64)
    shift = _SUM_BITS - np.frexp(largest)[1] - np.frexp(counts)[1]
    units = np.rint(np.ldexp(present, shift[keys])).astype(np.int64)
    return shift.astype(np.int64), units, valued.astype(np.int64)


def _prefix(values: Ints) -> Ints:
    """Sums of what comes before each place; over many keys they wrap, the difference within one is right."""
    return np.concatenate([[0], np.cumsum(values)])


def _between(prefixes: tuple[Ints, Ints], first: Ints, last: Ints) -> tuple[Ints, Ints]:
    return prefixes[0][last] - prefixes[0][first], prefixes[1][last] - prefixes[1][first]


def _bisect(starts: Any, at: Any, keys: Any, until: Any) -> Any:
    """Per row, where the moments of its key begin and where those up to `until` end; (0, 0) for no key."""
    first, last = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
    for row in range(len(keys)):
        key, moment = keys[row], until[row]
        if key < 0 or key >= len(starts) - 1:
            continue
        low, high = starts[key], starts[key + 1]
        first[row] = low
        while low < high:
            middle = (low + high) // 2
            if at[middle] <= moment:
                low = middle + 1
            else:
                high = middle
        last[row] = low
    return first, last


_Search = Callable[[Ints, Ints, Ints, Ints], tuple[Ints, Ints]]
_search = cast(_Search, numba.njit(cache=True, nogil=True)(_bisect))
