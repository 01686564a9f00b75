"""Embeddings of items beside their ids: what text, picture or sound tells of an item before anybody had it.

They come as a Parquet file with a row for each item: `item`, its id; a column of embeddings for each
modality, lists of as many numbers in each row, null where an item has none (pyarrow reads no null of
fixed-size lists); and, if it has it, `since`, the moment from which on everybody may list the item, whether
anybody had it or not.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feature_store.catalogue import check_ids, index
from feature_store.cells import identifiers, instants
from feature_store.errors import BadData

ITEM, SINCE = "item", "since"
NEVER = np.iinfo(np.int64).max


class Content(NamedTuple):
    """Of n items what their content is.

    `vectors` (n, d) has the embeddings of all modalities beside each other, each of length 1, or 0 where
    there is none; modality `names[i]` is columns `starts[i]` to `starts[i + 1]`.  `since` (n,) is in
    microseconds since 1970, `NEVER` where it is not told.
    """

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    starts: NDArray[np.int64]
    since: NDArray[np.int64]

    def of(self, modalities: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The embeddings of these `modalities`, which it must have, and where each one's columns start."""
        spans = [slice(*self.starts[place : place + 2]) for place in map(self.names.index, modalities)]
        vectors = [self.vectors[:, :0], *(self.vectors[:, span] for span in spans)]
        return np.hstack(vectors), np.cumsum([each.shape[1] for each in vectors], dtype=np.int64)

    def listed_at(self, moment: int) -> NDArray[np.int32]:
        """The items that anybody might list before `moment`, ascending."""
        return np.flatnonzero(self.since < moment).astype(np.int32)


NOTHING = Content((), np.zeros((0, 0), np.float32), np.zeros(1, np.int64), np.zeros(0, np.int64))
"""No content of any item."""


def read_content(path: Path, modalities: Sequence[str]) -> tuple[pa.Array, Content]:
    """The ids of a file, and beside them what it says of each.

    Raises `BadData` for a file that cannot be read, for a column that it has not or that is no list of
    numbers, for lists of several lengths, for what is no finite number, and for an id that is empty or
    repeated.
    """
    try:
        table = _columns(path, modalities)
    except (OSError, pa.ArrowException) as error:
        raise BadData(f"{path}: expected a readable Parquet file of embeddings, found: {error}") from error
    ids = identifiers(table[ITEM].combine_chunks())
    check_ids(ids.to_pylist(), f"{path}, row")
    found = [_unit(_numbers(path, name, table[name].combine_chunks())) for name in modalities]
    starts = np.cumsum([0, *(each.shape[1] for each in found)], dtype=np.int64)
    since = _since(path, table[SINCE].combine_chunks()) if SINCE in table.column_names else None
    never = np.full(len(ids), NEVER, np.int64)
    return ids, Content(tuple(modalities), np.hstack(found), starts, never if since is None else since)


def of_catalogue(path: Path, modalities: Sequence[str], catalogue: pa.Array) -> Content:
    """What a file says of the catalogue's items, in its order; raises what `read_content` does.

    Raises `BadData`, too, where it knows none of them.
    """
    ids, told = read_content(path, modalities)
    place = index(catalogue, ids)
    if (place < 0).all():
        raise BadData(f"{path}: column {ITEM!r}: found none of the catalogue's {len(catalogue):,} ids")
    vectors = np.zeros((len(catalogue), told.vectors.shape[1]), np.float32)
    since = np.full(len(catalogue), NEVER, np.int64)
    vectors[place[place >= 0]], since[place[place >= 0]] = told.vectors[place >= 0], told.since[place >= 0]
    return told._replace(vectors=vectors, since=since)


def digest(path: Path | None) -> str | None:
    """SHA-256 of a file's bytes; none where there is no file."""
    if path is None or not path.is_file():
        return None
    state = path.stat()
    return _digest(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _digest(path: Path, _changed_at: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _columns(path: Path, modalities: Sequence[str]) -> pa.Table:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        for column in (ITEM, *modalities):
            if names.count(column) != 1:
                raise BadData(f"{path}: expected one column {column!r}, found {', '.join(names) or 'none'}")
        return file.read(columns=[ITEM, *modalities, *({SINCE} & {*names})])


def _numbers(path: Path, name: str, cells: pa.Array) -> NDArray[np.float32]:
    """The rows of a column of lists, zeros where there is none, (n, d)."""
    column, kind = f"{path}: column {name!r}", cells.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise BadData(f"{column}: found {kind}, expected lists of numbers")
    given, rows = cells.drop_null(), np.flatnonzero(np.asarray(cells.is_valid()))
    if not len(given):
        raise BadData(f"{column}: found no embedding, expected one at least")
    lengths = np.asarray(pc.list_value_length(given))
    if not lengths[0] or (lengths != lengths[0]).any():
        row = int((lengths != max(lengths[0], 1)).argmax())
        expected = f"{lengths[0]}, as in row {rows[0] + 1}" if row else "one at least"
        raise BadData(f"{column}, row {rows[row] + 1}: found {lengths[row]} numbers, expected {expected}")
    values = given.flatten().cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)  # null is NaN
    values = values.reshape(len(given), lengths[0])
    if not (finite := np.isfinite(values).all(axis=1)).all():
        row = int(finite.argmin())
        found = values[row][~np.isfinite(values[row])][0]
        raise BadData(f"{column}, row {rows[row] + 1}: found {found}, expected finite numbers of 32 bits")
    every = np.zeros((len(cells), lengths[0]), np.float32)
    every[rows] = values
    return every


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each of length 1; one of zeros points nowhere and stays as it is."""
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return (vectors / np.where(length > 0, length, 1.0)[:, None]).astype(np.float32)


def _since(path: Path, cells: pa.Array) -> NDArray[np.int64]:
    times = instants(cells, "iso", "UTC")
    unread = np.asarray(times.is_null()) & np.asarray(cells.is_valid())
    if unread.any():
        row = int(unread.argmax())
        raise BadData(
            f"{path}: column {SINCE!r}, row {row + 1}: found {cells[row].as_py()!r}, expected a moment"
        )
    return np.asarray(times.cast(pa.int64()).fill_null(NEVER), np.int64)
