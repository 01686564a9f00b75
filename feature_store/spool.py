"""Events set down by month on their way into the store, so that memory holds one slice at a time.

A first pass appends each batch to the file of its month (Arrow IPC, in a folder that ends with the
import).  A month with more events than a slice may have is dealt out again by days, and a day by users.
"""

import os
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feature_store.cleaning import DAY

NO_MONTH = "none"


class Spool:
    """Files of record batches by key, written and read once."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema = folder, schema
        self.rows: Counter[str] = Counter()
        folder.mkdir(mode=0o700)

    def deal(self, batch: pa.RecordBatch, keys: NDArray[np.integer], names: list[str]) -> None:
        """Append each row to the file `names[key]`; rows with key -1 are left out."""
        counts = np.bincount(keys + 1, minlength=len(names) + 1)
        if counts.max(initial=0) == len(keys):  # all in one
            if len(keys) and keys[0] >= 0:
                self._append(names[int(keys[0])], batch)
            return
        narrow = keys.astype(np.int16) if len(names) < 2**15 else keys  # numpy sorts 16 bits by radix
        order = np.argsort(narrow, kind="stable")
        dealt = batch.take(pa.array(order[counts[0] :]))
        ends = np.cumsum(counts[1:])
        for key in np.flatnonzero(counts[1:]):
            self._append(names[key], dealt.slice(ends[key] - counts[key + 1], counts[key + 1]))

    def read(self, key: str, keep: bool = False) -> Iterator[pa.RecordBatch]:
        """The batches of `key` in the order of their coming; without `keep` the file is gone afterwards."""
        path = self._folder / key
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            yield from stream
        if not keep:
            path.unlink()

    def _append(self, key: str, batch: pa.RecordBatch) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with open(os.open(self._folder / key, flags, 0o600), "ab") as file:
            if key not in self.rows:
                file.write(self._schema.serialize())
            file.write(batch.serialize())
        self.rows[key] += batch.num_rows


def months_of(times: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[str]]:
    """For each time (microseconds) the place of its month in the list that comes second."""
    if not len(times):
        return np.zeros(0, np.int64), []
    first, last = int(times.min()) // DAY, int(times.max()) // DAY
    months = np.arange(first, last + 1).astype("datetime64[D]").astype("datetime64[M]")
    names = np.unique(months)
    place = np.searchsorted(names, months)
    if len(names) == 1:
        return np.zeros(len(times), np.int64), [str(names[0])]
    return place[times // DAY - first], [str(name) for name in names]


def in_slices(spool: Spool, month: str, most: int) -> Iterator[pa.Table]:
    """The events of `month` in tables of about `most` rows: days in order, a larger day by users."""
    if spool.rows[month] <= most:
        yield pa.Table.from_batches(spool.read(month))
        return
    days = _days(spool, month)
    base, buckets, names = _plan(days, most)
    first = min(days)
    for batch in spool.read(month):
        day = _day_of(batch) - first
        spool.deal(
            batch, base[day] + _hashes(batch["user"]) % buckets[day], [f"{month}.{name}" for name in names]
        )
    for name in names:
        if spool.rows[f"{month}.{name}"]:
            yield pa.Table.from_batches(spool.read(f"{month}.{name}"))


def _days(spool: Spool, month: str) -> Counter[int]:
    """Events of each day, counted from 1970."""
    days: Counter[int] = Counter()
    for batch in spool.read(month, keep=True):
        found, counts = np.unique(_day_of(batch), return_counts=True)
        days.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    return days


def _day_of(batch: pa.RecordBatch) -> NDArray[np.int64]:
    return np.asarray(batch["time"].cast(pa.int64()).fill_null(0)) // DAY


def _plan(days: Counter[int], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """For each day from the first on: its first slice and how many it has; then the names of all slices."""
    base = np.zeros(max(days) - min(days) + 1, np.int64)
    buckets = np.ones_like(base)
    end, room = 0, 0
    for day in sorted(days):
        place, rows = day - min(days), days[day]
        if rows > room:
            buckets[place] = -(-rows // most)
            base[place], end, room = end, end + int(buckets[place]), most if rows <= most else 0
        else:
            base[place] = end - 1
        room -= rows if rows <= room else 0
    return base, buckets, [f"{number:06}" for number in range(end)]


def _hashes(users: pa.Array) -> NDArray[np.int64]:
    coded = users.dictionary_encode()
    hashes = np.array([zlib.crc32(user.encode()) for user in coded.dictionary.to_pylist()], np.int64)
    return np.asarray(hashes[coded.indices.to_numpy()])
