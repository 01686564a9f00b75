"""Files of JSON lines: one object a line, whose members are the columns."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from feature_store.errors import BadData
from feature_store.readers import BLOCK_BYTES, Cells, Columns, opened, positions


def read_jsonl(path: Path, columns: Columns) -> Iterator[Cells]:
    """Members of one JSON object a line as text; a line that is none is nulls.

    Raises `BadData` for an array, whose lines end with commas, for a line longer than a block, and where the
    first block has no object.
    """
    if places := [key for key in columns.values() if isinstance(key, int)]:
        raise BadData(f"{path}: columns: found positions {places}, expected names of keys")
    with opened(path) as stream:
        for block, lines in enumerate(_blocks(stream, path)):
            events = [_object(line) for line in lines]
            if block == 0:  # later lines may lack a key
                _check_first(path, columns, lines[0], events)
            yield {
                field: pa.array([_text(event.get(str(key))) for event in events], pa.string())
                for field, key in columns.items()
            }


def _check_first(path: Path, columns: Columns, line: bytes, events: list[dict[str, Any]]) -> None:
    """Raise `BadData` for a first `line` of an array, where no object of the first block has a key, and where
    all that a key has is lists or objects: none could be read."""
    if line.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        raise BadData(f"{path}: found a JSON array, expected one object a line without commas between")
    if not any(events):
        raise BadData(f"{path}, from line 1: expected one JSON object a line", repr(line[:100]))
    positions(path, columns, sorted(set().union(*events)))
    for field, key in columns.items():
        cells = [cell for event in events if (cell := event.get(str(key))) is not None]
        if cells and all(isinstance(cell, dict | list) for cell in cells):
            raise BadData(f"{path}: columns.{field}: expected text or numbers in {key!r}", cells[0])


def _blocks(stream: Any, path: Path) -> Iterator[list[bytes]]:
    rest = b""
    while block := stream.read(BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > BLOCK_BYTES:
            raise BadData(
                f"{path}: found a line of more than {BLOCK_BYTES:,} bytes, expected one object a line"
            )
        if lines := [line for line in lines if line.strip()]:
            yield lines
    if rest.strip():
        yield [rest]


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.removeprefix(codecs.BOM_UTF8).decode(errors="surrogatepass"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(cell: Any) -> str | None:
    """Text and numbers as text, 7.0 as 7; what is neither, or NaN, or half a surrogate pair, as null."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, str):
        return cell if cell.encode(errors="ignore").decode() == cell else None
    return json.dumps(cell) if isinstance(cell, int | float) and cell == cell else None
