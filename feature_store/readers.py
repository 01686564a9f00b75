"""Files of events, each as a stream of the columns that are wanted, in the types that the file has.

Every reader takes `columns`, the name or position of the column for each field, and yields one array
a field for each block of the file.
"""

import codecs
import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from feature_store.errors import BadData

BLOCK_BYTES = 8 << 20
BATCH_ROWS = 1 << 18
_UNIT = "\x1f"  # ASCII's unit separator stands in for separators longer than a character
Cells = dict[str, pa.Array]
Columns = Mapping[str, str | int]


def read_csv(path: Path, columns: Columns, separator: str, header: bool) -> Iterator[Cells]:
    """Cells as text, empty ones null; a line with too few or too many is nulls at the end of its block."""
    names = _first_line(path, separator, header)
    positions = _positions(path, columns, names)
    torn: list[Any] = []

    def skip(row: Any) -> str:
        torn.append(row)
        return "skip"

    reader = pyarrow.csv.open_csv(
        _open(path) if len(separator) == 1 else _Separated(_open(path), separator),
        pyarrow.csv.ReadOptions(
            use_threads=False,  # so that torn lines are numbered; organisations run beside each other instead
            block_size=BLOCK_BYTES,
            column_names=[str(place) for place in range(len(names))],
            skip_rows=int(header),
        ),
        pyarrow.csv.ParseOptions(
            delimiter=separator if len(separator) == 1 else _UNIT,
            quote_char=False if separator == "\t" or len(separator) > 1 else '"',
            invalid_row_handler=skip,
        ),
        pyarrow.csv.ConvertOptions(
            column_types={str(place): pa.string() for place in range(len(names))},
            include_columns=sorted({str(place) for place in positions.values()}),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    for batch in reader:
        if not batch.num_rows and torn:
            row = torn[0]
            raise BadData(
                f"{path}, line {row.number}: found {row.actual_columns} cells,"
                f" expected {row.expected_columns}"
            )
        lost = pa.nulls(len(torn), pa.string())
        torn.clear()
        yield {
            field: pa.concat_arrays([batch.column(str(place)), lost])
            if len(lost)
            else batch.column(str(place))
            for field, place in positions.items()
        }


def _first_line(path: Path, separator: str, header: bool) -> list[str]:
    """The cells of the first line: names, or 0, 1, … where the file has no header."""
    with _open(path) as stream:
        block = stream.read(BLOCK_BYTES).removeprefix(codecs.BOM_UTF8)
    line = block.split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r")
    found = line.split(separator) if len(separator) > 1 else next(csv.reader([line], delimiter=separator), [])
    if not found:
        raise BadData(
            f"{path}, line 1: found nothing, expected " + ("the names of columns" if header else "an event")
        )
    return found if header else [str(place) for place in range(len(found))]


def read_parquet(path: Path, columns: Columns) -> Iterator[Cells]:
    """Columns as they are typed in the file."""
    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        names = file.schema_arrow.names
        wanted = {field: names[place] for field, place in _positions(path, columns, names).items()}
        for batch in file.iter_batches(BATCH_ROWS, columns=sorted(set(wanted.values())), use_threads=False):
            yield {field: batch.column(name) for field, name in wanted.items()}


def read_jsonl(path: Path, columns: Columns) -> Iterator[Cells]:
    """Members of one JSON object a line as text; a line that is none is nulls."""
    first = True
    if places := [key for key in columns.values() if isinstance(key, int)]:
        raise BadData(f"{path}: columns: found positions {places}, expected names of keys")
    with _open(path) as stream:
        for lines in _line_blocks(stream):
            events = [_object(line) for line in lines]
            if first:  # other lines may lack a key
                _positions(path, columns, sorted(set().union(*events)))
                first = False
            yield {
                field: pa.array([_text(event.get(str(key))) for event in events], pa.string())
                for field, key in columns.items()
            }


def _positions(path: Path, columns: Columns, names: list[str]) -> dict[str, int]:
    """Position of each mapped field among the columns `names` of a file."""
    positions = {}
    for field, column in columns.items():
        if column in names:
            positions[field] = names.index(column)
        elif isinstance(column, int) and 0 <= column < len(names):
            positions[field] = column
        else:
            raise BadData(
                f"{path}: columns.{field}: found no column {column!r}, expected a name in the file's header"
                f" or a position from 0 to {len(names) - 1}",
                ", ".join(names),
            )
    return positions


def _line_blocks(stream: Any) -> Iterator[list[bytes]]:
    rest = b""
    while block := stream.read(BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if lines := [line for line in lines if line.strip()]:
            yield lines
    if rest.strip():
        yield [rest]


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(cell: Any) -> str | None:
    return cell if isinstance(cell, str) else json.dumps(cell) if isinstance(cell, int | float) else None


def _open(path: Path) -> Any:
    return pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None)


class _Separated:
    """A stream of lines in which a separator of several characters is replaced by one."""

    closed = False

    def __init__(self, stream: Any, separator: str) -> None:
        self._stream, self._separator, self._rest = stream, separator.encode(), b""

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        """At most `size` bytes that end with a line, so that no separator is cut."""
        block: bytes = self._rest + self._stream.read(max(size - len(self._rest), 0))
        end = block.rfind(b"\n") + 1 if len(block) >= size else len(block)
        self._rest = block[end:]
        return block[:end].replace(self._separator, _UNIT.encode())

    def readable(self) -> bool:
        """Always: pyarrow asks."""
        return True

    def close(self) -> None:
        """Close the stream beneath."""
        self.closed = True
        self._stream.close()
