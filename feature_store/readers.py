"""Files of events, each as a stream of the columns that are wanted, in the types that the file has.

Every reader takes `columns`, the name or position of the column for each field, and yields one array
a field for each block of the file.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from feature_store.errors import BadData

BLOCK_BYTES = 8 << 20
BATCH_ROWS = 1 << 18
csv.field_size_limit(BLOCK_BYTES)  # of the check of quotes; else it calls a long text a stray quote
_UNIT = "\x1f"  # ASCII's unit separator stands in for separators longer than a character
_GZIPPED = b"\x1f\x8b\x08"  # how such a file begins (RFC 1952, with deflate)

Cells = dict[str, pa.Array]
Columns = Mapping[str, str | int]


def read_csv(path: Path, columns: Columns, separator: str, header: bool) -> Iterator[Cells]:
    """Cells as text, empty ones null; a line with too few or too many is nulls at the end of its block.

    Raises `BadData` where a quote that is not closed as it should be has swallowed lines.
    """
    try:
        yield from _csv_blocks(path, columns, separator, header)
    except pa.ArrowInvalid:
        if _quotes(separator):  # the quote that swallows a whole block is the cause, whatever arrow says
            _check_quotes(path, separator)
        raise


def _csv_blocks(path: Path, columns: Columns, separator: str, header: bool) -> Iterator[Cells]:
    names, only = _first_line(path, separator, header)
    asked = {column for column in columns.values() if isinstance(column, str)}
    if "\ufffd" in "".join(names) and not asked <= {*names}:
        raise BadData(f"{path}, line 1: expected names of columns in UTF-8", ", ".join(names))
    wanted = positions(path, columns, names, f" where separator is {separator!r}")
    if header and only:  # arrow cannot skip a line that nothing ends
        return
    torn: list[Any] = []

    def skip(row: Any) -> str:
        torn.append(row)
        return "skip"

    stream, places = _Lines(opened(path), separator), [str(place) for place in range(len(names))]
    reader = pyarrow.csv.open_csv(
        stream,
        pyarrow.csv.ReadOptions(
            use_threads=False,  # so that torn lines are numbered; organisations run beside each other instead
            block_size=BLOCK_BYTES,
            column_names=places,
            skip_rows=int(header),
        ),
        pyarrow.csv.ParseOptions(
            delimiter=stream.delimiter,
            quote_char='"' if _quotes(separator) else False,
            newlines_in_values=_quotes(separator),  # else a block that ends within a cell is refused
            invalid_row_handler=skip,
        ),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(places, pa.string()),
            include_columns=sorted({str(place) for place in wanted.values()}),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    rows = int(header)
    for batch in reader:
        rows += batch.num_rows + len(torn)
        lost = pa.nulls(len(torn), pa.string())
        torn.clear()
        found = {field: batch.column(str(place)) for field, place in wanted.items()}
        yield (
            {field: pa.concat_arrays([whole, lost]) for field, whole in found.items()} if len(lost) else found
        )
    if torn:
        row = torn[0]
        raise BadData(
            f"{path}, line {row.number}: found {row.actual_columns} cells, expected {row.expected_columns}"
        )
    if stream.lines > rows and _quotes(separator):  # blank lines, or cells in quotes that run over several
        _check_quotes(path, separator)


def _quotes(separator: str) -> bool:
    return separator != "\t" and len(separator.encode()) == 1


def _check_quotes(path: Path, separator: str) -> None:
    """Raise `BadData`, naming the line, unless every cell in quotes is closed as it should be."""
    with opened(path) as stream:
        text = io.TextIOWrapper(stream, "utf-8", "replace", newline="")
        reader, line = csv.reader(text, delimiter=separator, strict=True), 1
        try:
            for _ in reader:
                line = reader.line_num + 1
        except csv.Error as error:
            raise BadData(
                f"{path}, line {line}: a quote opens a cell that ends elsewhere or not at all ({error}); "
                "expected it closed before the next separator, and quotes within doubled"
            ) from None


def _first_line(path: Path, separator: str, header: bool) -> tuple[list[str], bool]:
    """The cells of the first line: names, or 0, 1, … without a header; and whether nothing ends the line."""
    with opened(path) as stream:
        block = stream.read(BLOCK_BYTES).removeprefix(codecs.BOM_UTF8)
    start, *rest = re.split(rb"[\r\n]", block, maxsplit=1)
    line = start.decode("utf-8", "replace")
    try:
        found = (
            next(csv.reader([line], delimiter=separator), []) if _quotes(separator) else line.split(separator)
        )
    except csv.Error as error:
        raise BadData(f"{path}, line 1: expected cells between {separator!r}", error) from None
    if not found:
        raise BadData(
            f"{path}, line 1: found nothing, expected " + ("the names of columns" if header else "an event")
        )
    return (found if header else [str(place) for place in range(len(found))]), not rest


def read_parquet(path: Path, columns: Columns) -> Iterator[Cells]:
    """Columns as they are typed in the file."""
    by_block = {"buffer_size": 1 << 20, "pre_buffer": False}
    with pq.ParquetFile(path, coerce_int96_timestamp_unit="us", **by_block) as file:  # ns end in 2262
        names = file.schema_arrow.names
        wanted = {field: names[place] for field, place in positions(path, columns, names).items()}
        positions(path, wanted, names)  # what stands at a position is read by its name, too
        for batch in file.iter_batches(BATCH_ROWS, columns=sorted(set(wanted.values())), use_threads=False):
            yield {field: batch.column(name) for field, name in wanted.items()}


def positions(path: Path, columns: Columns, names: list[str], read: str = "") -> dict[str, int]:
    """Position of each mapped field among the columns `names` of a file; `BadData` without just one.

    It says how the file was `read`.
    """
    found = {}
    for field, column in columns.items():
        if isinstance(column, str) and names.count(column) > 1:
            raise BadData(f"{path}: columns.{field}: found several columns {column!r}, expected one")
        if column in names:
            found[field] = names.index(column)
        elif isinstance(column, int) and 0 <= column < len(names):
            found[field] = column
        else:
            raise BadData(
                f"{path}: columns.{field}: found no column {column!r}{read}, expected a name in the file's "
                f"header or a position from 0 to {len(names) - 1}",
                ", ".join(names),
            )
    return found


def opened(path: Path) -> Any:
    """The bytes of a file, as a stream; unpacked where its name or how it begins says that it is gzipped."""
    with path.open("rb") as file:
        packed = path.suffix.lower() == ".gz" or file.read(len(_GZIPPED)) == _GZIPPED
    return pa.input_stream(str(path), compression="gzip" if packed else None)


class _Lines:
    """A stream of lines, counted; a separator of several bytes is replaced by `delimiter`."""

    closed = False

    def __init__(self, stream: Any, separator: str) -> None:
        self._stream, self._separator, self._rest, self.lines = stream, separator.encode(), b"", 0
        self.delimiter = separator if len(self._separator) == 1 else _UNIT

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        """At most `size` bytes, none of them a part of a separator."""
        fresh = self._stream.read(size - len(self._rest))
        self.lines += fresh.count(b"\n")
        if len(self._separator) == 1:
            return bytes(fresh)
        block: bytes = (self._rest + fresh).replace(self._separator, _UNIT.encode())
        parts = (n for n in range(len(self._separator) - 1, 0, -1) if block.endswith(self._separator[:n]))
        end = len(block) - (next(parts, 0) if fresh else 0)
        self._rest = block[end:]
        return block[:end]

    def readable(self) -> bool:
        """Always: pyarrow asks."""
        return True

    def close(self) -> None:
        """Close the stream beneath."""
        self.closed = True
        self._stream.close()
