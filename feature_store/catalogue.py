"""The item catalogue: which item ids exist, and in what order; common knowledge of the consortium."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feature_store.errors import BadData


def read_catalogue(path: Path) -> pa.StringArray:
    """The item ids in `path`, a text file of one id a line or a Parquet file's first column.

    Raises `BadData` for a file that cannot be read, an empty id, or one that comes twice.
    """
    try:
        ids = _parquet(path) if path.suffix == ".parquet" else path.read_text().splitlines()
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise BadData(f"{path}: cannot be read ({error}); expected a catalogue of item ids") from None
    seen: dict[str, int] = {}
    for line, item in enumerate(ids, 1):
        if not item or item in seen:
            found = f"'{item}' again, first in line {seen[item]}" if item else "an empty id"
            raise BadData(f"{path}: line {line}: found {found}, expected each item id once")
        seen[item] = line
    return pa.array(ids, pa.string())


def write_catalogue(path: Path, ids: Iterable[str]) -> None:
    """Write one id a line, beside and renamed into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    beside.write_text("".join(f"{item}\n" for item in ids))
    os.replace(beside, path)


def union(lists: Iterable[Iterable[str]]) -> list[str]:
    """All ids of all lists once, ascending."""
    return sorted({item for ids in lists for item in ids})


def index(catalogue: pa.StringArray, items: pa.Array) -> NDArray[np.int32]:
    """The position of each item in the catalogue, -1 for one that is not in it."""
    if pa.types.is_dictionary(items.type):
        places = index(catalogue, items.dictionary.cast(pa.string()))
        return places[items.indices.to_numpy(zero_copy_only=False)]
    found = pc.index_in(items.cast(pa.string()), value_set=catalogue).fill_null(-1)
    return found.to_numpy(zero_copy_only=False).astype(np.int32)


def _parquet(path: Path) -> list[str]:
    return [str(item) for item in pq.read_table(path).column(0).to_pylist()]
