"""The items that a consortium has in common: ids in a fixed order, whose positions are the items' indices."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feature_store.cells import identifiers
from feature_store.errors import BadData
from feature_store.replacing import replace


def read_catalogue(path: Path) -> pa.Array:
    """The ids of a text file, one a line, or of the first column of a Parquet file, as strings in order.

    Raises `BadData` for a file that cannot be read or is empty, and for ids that could not be written.
    """
    parquet = path.suffix in (".parquet", ".pq")
    try:
        ids = _first_column(path) if parquet else _lines(path)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise BadData(f"{path}: expected a readable list of item ids, found: {error}") from error
    if not len(ids):
        raise BadData(f"{path}: found no item ids, expected one at least")
    check_ids(ids.to_pylist(), f"{path}, {'row' if parquet else 'line'}")
    return ids


def write_catalogue(path: Path, ids: Sequence[str]) -> None:
    """Write `ids` as text, one a line; raises `BadData` for ids that are empty, repeated or of two lines."""
    check_ids(ids, f"{path}, line")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, "".join(f"{item}\n" for item in ids).encode())


def digest(path: Path, items: int | None = None) -> str:
    """What tells the first `items` ids of a catalogue from those of another; none: all of them."""
    return digest_of(read_catalogue(path)[:items].to_pylist())


def digest_of(ids: Sequence[str]) -> str:
    """The same of a list of ids."""
    return hashlib.sha256("".join(f"{item}\n" for item in ids).encode()).hexdigest()


def union(lists: Iterable[Iterable[str]]) -> list[str]:
    """Every id of the `lists` once, ascending."""
    return sorted({item for each in lists for item in each})


def index(catalogue: pa.Array, items: pa.Array | pa.ChunkedArray) -> NDArray[np.int32]:
    """The position of each of `items` (strings, plain or dictionary) in `catalogue`, -1 where it is not."""
    if isinstance(items, pa.ChunkedArray):
        items = items.combine_chunks()
    if isinstance(items, pa.DictionaryArray):
        codes = np.asarray(items.indices.fill_null(len(items.dictionary)), np.int64)
        places = np.append(index(catalogue, items.dictionary), np.int32(-1))
        return places[codes]
    found = pc.index_in(items.cast(pa.string()), value_set=catalogue, skip_nulls=True)
    return np.asarray(found.fill_null(-1), np.int32)


def require_known(items: Sequence[str], catalogue: Path) -> None:
    """Raises `BadData` where the catalogue knows none of the items: all events would be left out."""
    if items and set(items).isdisjoint(read_catalogue(catalogue).to_pylist()):
        raise BadData(
            f"events.columns.item: {catalogue} knows none of the ids, expected its own, or aliases",
            repr(items[0]),
        )


def check_ids(ids: Sequence[str | None], place: str) -> None:
    """Raise `BadData`, with the place, for an id that is empty, repeated or of two lines."""
    first: dict[str, int] = {}
    for line, item in enumerate(ids, 1):
        if not isinstance(item, str) or not item:
            raise BadData(f"{place} {line}: found an empty id, expected one item id")
        if "\n" in item or "\r" in item:
            raise BadData(f"{place} {line}: found a line break in an id, expected none")
        if (before := first.setdefault(item, line)) != line:
            raise BadData(
                f"{place} {line}: found {item!r} again, expected it once: it is at {before} already"
            )


def _lines(path: Path) -> pa.Array:
    """The lines of `path`; only line feeds end them, with or without a carriage return."""
    text = path.read_bytes().decode("utf-8-sig")
    lines = text.removesuffix("\n").split("\n") if text else []
    return pa.array([line.removesuffix("\r") for line in lines], pa.string())


def _first_column(path: Path) -> pa.Array:
    file = pq.ParquetFile(path)
    if not (names := file.schema_arrow.names):
        return pa.array([], pa.string())
    return identifiers(file.read(columns=names[:1]).column(0).combine_chunks())
