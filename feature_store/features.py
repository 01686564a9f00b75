"""As-of features of (user, item, moment): what one participant knew of a user and an item at that moment.

They count a participant's own events only.  Corrections replace what they correct: events with the same
user, item and event time are versions of one, of which the last known by then counts.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feature_store.as_of import times_of
from feature_store.cleaning import DAY
from feature_store.history import Asked, History, Ints, Log, Times

BLOCK = 1 << 16
"""Rows that are answered at a time, so that what lies between stays in the processor's cache."""


class Feature(NamedTuple):
    """The name of a feature, its unit, and what it says; NaN stands for nothing known."""

    name: str
    unit: str
    description: str


FEATURES = (
    Feature("user_count", "events", "events of the user so far"),
    Feature("user_recency", "days", "since the user's latest event; NaN before the first"),
    Feature("user_mean_value", "value", "mean value of the user's events; NaN without any"),
    Feature("item_count", "events", "events of the item so far"),
    Feature("item_count_365d", "events", "events of the item in the last 365 days"),
    Feature("item_count_90d", "events", "events of the item in the last 90 days"),
    Feature("item_count_30d", "events", "events of the item in the last 30 days"),
    Feature("item_age", "days", "since the item's first event; NaN before it"),
    Feature("item_recency", "days", "since the item's latest event; NaN before the first"),
    Feature("item_mean_value", "value", "mean value of the item's events; NaN without any"),
    Feature("user_item_count", "events", "events of this user with this item so far"),
)


@dataclass(frozen=True)
class Events:
    """Events as arrays of one length: codes of users and items, both clocks, values (NaN: none)."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: Times
    values: NDArray[np.float64]
    user_count: int
    item_count: int


def events_of(table: pa.Table, users: NDArray[np.int32], items: NDArray[np.int32], item_count: int) -> Events:
    """Events of the store with codes for users and items; those with a code of -1 or no time fall out."""
    keep = (users >= 0) & (items >= 0) & ~np.asarray(table["event_time"].is_null())
    kept = table.filter(pa.array(keep))
    values = np.asarray(kept["value"].combine_chunks().to_numpy(zero_copy_only=False), np.float64)
    user_count = int(users.max(initial=-1)) + 1
    return Events(users[keep], items[keep], times_of(kept), values, user_count, item_count)


class AsOfFeatures:
    """The features of `FEATURES` over one participant's events; building it sorts them once."""

    def __init__(self, events: Events) -> None:
        times, values = events.times, events.values
        pairs = events.users.astype(np.int64) * events.item_count + events.items
        known_pairs, codes = np.unique(pairs, return_inverse=True)
        replaced_at = times.replaced_at(codes)
        self.events = events
        self.users = History(events.users, events.user_count, times, replaced_at, values)
        self.items = History(events.items, events.item_count, times, replaced_at, values)
        self.pairs = History(codes, len(known_pairs), times, replaced_at)
        owners = known_pairs // max(events.item_count, 1)
        self.items_of_users = Log(owners, known_pairs - owners * events.item_count, events.user_count)

    def ask(
        self,
        users: NDArray[np.integer],
        items: NDArray[np.integer],
        at: Ints,
        strictly_before: bool = True,
    ) -> NDArray[np.float64]:
        """Shape (rows, features), the rows in the asked order; `at` in microseconds since 1970.

        Unknown users and items, -1, have no events.  By default what happened or became known at the
        moment itself stays out, so that a label's own event is not among its features; else it counts.
        """
        found = np.empty((len(FEATURES), len(at)))
        for start in range(0, len(at), BLOCK):
            rows = slice(start, start + BLOCK)
            self._fill(found[:, rows], users[rows], items[rows], at[rows], strictly_before)
        return found.T

    def _fill(
        self,
        found: NDArray[np.float64],
        users: NDArray[np.integer],
        items: NDArray[np.integer],
        at: Ints,
        strictly_before: bool,
    ) -> None:
        until = at.astype(np.int64) - int(strictly_before)
        self._of_user(self.users.ask(users, until), at, found[:3])
        self._of_item(self.items.ask(items, until), at, found[3:10])
        found[10] = self.pairs.ask(self._pair_codes(users, items), until).counts()

    def _of_user(self, asked: Asked, at: Ints, found: NDArray[np.float64]) -> None:
        found[0] = asked.counts()
        found[1] = self._days_since(asked.newest(), at)
        found[2] = asked.means()

    def _of_item(self, asked: Asked, at: Ints, found: NDArray[np.float64]) -> None:
        for place, window in enumerate((None, 365 * DAY, 90 * DAY, 30 * DAY)):
            found[place] = asked.counts(window)
        found[4] = self._days_since(asked.oldest(), at)
        found[5] = self._days_since(asked.newest(), at)
        found[6] = asked.means()

    def _days_since(self, rows: Ints, at: Ints) -> NDArray[np.float64]:
        if not len(self.events.users):
            return np.full(len(rows), np.nan)
        return np.where(rows >= 0, (at - self.events.times.event[rows]) / DAY, np.nan)

    def _pair_codes(self, users: NDArray[np.integer], items: NDArray[np.integer]) -> Ints:
        """The code of each pair of user and item, -1 where it never occurs."""
        first, last = self.items_of_users.span(users.astype(np.int64), items.astype(np.int64))
        codes = np.where(last > first, last - 1, -1)
        if len(self.events.users):
            codes[self.items_of_users.at[codes] != items] = -1
        return codes
