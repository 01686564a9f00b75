"""One slice of new events, compared with each other and with the store, cleaned and sorted.

A slice holds all new events of its users in its days, so nothing outside it, but for older parts of
the same days, could be a duplicate of one of them or count for a user's rate.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_store import cleaning
from feature_store.cleaning import DAY, NO_TIME, CleaningReport, CleaningRules, Keys
from feature_store.partitions import PART_SCHEMA

Coded = dict[str, pa.DictionaryArray]
KEY_COLUMNS = ("user", "item", "event_time", "value")


def clean_slice(
    events: pa.Table, rules: CleaningRules, older: Iterable[pa.Table]
) -> tuple[pa.Table, CleaningReport]:
    """The events that stay, as `PART_SCHEMA` by time and sequence, and the report of those that do not.

    `events` are rows of a spool in file order, `older` the `KEY_COLUMNS` of parts within their `span`.
    """
    coded = {name: events[name].dictionary_encode().combine_chunks() for name in ("user", "item")}
    times = microseconds_of(events["time"])
    values = events["value"].to_numpy()
    values = np.where(np.isnan(values), np.nan, values)  # one NaN for all
    keys = Keys(times, coded["user"].indices.to_numpy(), coded["item"].indices.to_numpy(), values)
    drop, report = _drops(keys, _older_keys(older, span(times), coded), rules)
    order = np.flatnonzero(~drop)
    if np.any(np.diff(times[order]) < 0):
        order = order[np.argsort(times[order], kind="stable")]
    return _taken(events, coded, values, order), report


def span(times: NDArray[np.int64]) -> tuple[int, int]:
    """From the first day of `times` to the end of the last, in microseconds, the end excluded."""
    return int(times.min()) // DAY * DAY, (int(times.max()) // DAY + 1) * DAY


def microseconds_of(times: pa.ChunkedArray) -> NDArray[np.int64]:
    """Instants as integers, `NO_TIME` for null."""
    return np.asarray(times.cast(pa.int64()).fill_null(NO_TIME))


def _drops(new: Keys, older: Keys, rules: CleaningRules) -> tuple[NDArray[np.bool_], CleaningReport]:
    rows = len(new.time)
    drop = cleaning.repeated(new, older) if rules.duplicates == "drop" else np.zeros(rows, bool)
    duplicates = int(drop.sum())
    if rows and new.time[0] != NO_TIME:
        left = np.flatnonzero(~drop)
        kept = new.take(left)
        hourly = cleaning.crowded(kept, older, cleaning.HOUR, rules.bot_events_per_hour)
        daily = cleaning.crowded(kept, older, DAY, rules.bot_events_per_day)
        drop[left[hourly | daily]] = True
    bots = int(drop.sum()) - duplicates
    return drop, CleaningReport(rows_read=rows, kept=rows - duplicates - bots, duplicate=duplicates, bot=bots)


def _older_keys(parts: Iterable[pa.Table], within: tuple[int, int], coded: Coded) -> Keys:
    """Events of `parts` by users of the slice in its days, in the slice's codes."""
    empty = np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0)
    found = [Keys(*empty)]
    for part in parts:
        events = part.unify_dictionaries().combine_chunks()
        user, item = (_recoded(events[name], coded[name].dictionary) for name in ("user", "item"))
        time = microseconds_of(events["event_time"])
        near = (user >= 0) & (time >= within[0]) & (time < within[1])
        found.append(Keys(time, user, item, events["value"].to_numpy()).take(np.flatnonzero(near)))
    return cleaning.joined(*found)


def _recoded(column: pa.ChunkedArray, dictionary: pa.Array) -> NDArray[np.int32]:
    """The codes of `column` in another dictionary, -1 where it lacks the word."""
    coded = column.combine_chunks()
    codes = np.asarray(pc.index_in(coded.dictionary, value_set=dictionary).fill_null(-1), np.int32)
    return np.asarray(codes[coded.indices.to_numpy()])


def _taken(events: pa.Table, coded: Coded, values: NDArray[np.float64], order: NDArray[np.int64]) -> pa.Table:
    rows = pa.array(order)
    time, known, sequence = (
        events[name].combine_chunks().take(rows) for name in ("time", "known_time", "sequence")
    )
    user, item = (_words(each, order) for each in coded.values())
    value = pa.array(values[order], from_pandas=True)
    known = time if known.null_count == len(known) else pc.coalesce(known, time)
    return pa.table([user, item, time, value, known, sequence], schema=PART_SCHEMA)


def _words(coded: pa.DictionaryArray, order: NDArray[np.int64]) -> pa.DictionaryArray:
    """The words of the rows `order`; those of other rows are not in their dictionary, which says how many."""
    codes = coded.indices.to_numpy()[order]
    used = np.bincount(codes, minlength=len(coded.dictionary)) > 0
    places = (np.cumsum(used) - 1).astype(np.int32)
    return pa.DictionaryArray.from_arrays(places[codes], coded.dictionary.filter(pa.array(used)))
