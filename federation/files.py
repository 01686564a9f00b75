"""Files of one's own: readable by their owner only, and put in place in one step.

Each is written beside and renamed, so a killed process leaves the old or the new.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from federation.errors import BadInput, Refused

OWNER_ONLY = 0o700


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that its owner only can read, and that is at `path` in one step when the block has ended."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=OWNER_ONLY)
    beside = path.with_name(path.name + ".tmp")
    with os.fdopen(os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        yield file
    os.replace(beside, path)


def write_json(path: Path, value: Any) -> None:
    """Put `value` at `path`, as `replacing` does."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=1).encode())


class _Kept(dict[str, Any]):
    """The object in a file; where a key is asked for that it lacks, the file is named."""

    path: Path

    def __missing__(self, key: str) -> Any:
        raise _damaged(self.path, f"no {key!r}")


def read_json(path: Path, read: Callable[[bytes], Any] | None = None) -> Any:
    """The object that `write_json` has put at `path`, or what `read` makes of it.

    Raises `BadInput`, naming the file, where it is damaged, also for a key that it lacks.
    """
    content = path.read_bytes()
    try:
        if read is not None:
            return read(content)
        kept = _Kept(**json.loads(content))  # refuses what is no object
    except (ValueError, TypeError, RecursionError) as error:  # as after a loss of power
        raise _damaged(path, f"no such JSON ({' '.join(str(error).split())[:200]})") from None
    kept.path = path
    return kept


def _damaged(path: Path, found: str) -> BadInput:
    return BadInput(f"{path}: found {found}, expected what was kept there; put a copy back, or remove it")


def save(path: Path, array: NDArray[Any]) -> None:
    """Put `array` at `path`, as `replacing` does."""
    with replacing(path) as file:
        writer: Any = SimpleNamespace(write=file.write)  # numpy's own file loses why a write failed
        np.save(writer, array)


def named(run: str) -> str:
    """The run's name, which the coordinator chooses, for a folder: it must not lead out of the one above."""
    if not re.fullmatch(r"[\w-][\w.-]*", run):
        raise Refused(f"run: found {run!r}, expected letters, digits, and . - _ within")
    return run
