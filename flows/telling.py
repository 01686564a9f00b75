"""What the command line says of an error that a user can mend, and the exit code that tells its kind."""

import errno
import os
from pathlib import Path

import typer

from federation.errors import BadInput, ChorusError


def tell(error: Exception) -> int:
    """The exit code, the error told in a sentence; raises an error that nobody at the keyboard can mend."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        error = ChorusError(f"{error.strerror}; what a run has done is kept for a resume")
    if isinstance(error, OSError) and error.filename is not None:
        error = BadInput(f"{error.filename}: {error.strerror}")
    code = getattr(error, "exit_code", None)
    if code is None:
        raise error
    typer.echo(f"chorus: {error}", err=True)
    return int(code)


def writable(path: Path | None) -> Path | None:
    """`path` as it is; raises `BadInput`, before hours of work, where no file can be written there."""
    if path is None:
        return path
    if not path.parent.is_dir():
        raise BadInput(f"{path}: found no folder {path.parent}, expected one to write a file in")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        found = "a folder" if path.is_dir() else "no permission to write"
        raise BadInput(f"{path}: found {found}, expected where a file can be written")
    return path


def drawable(path: Path | None) -> Path | None:
    """`path` as it is, for a plot; raises `BadInput` for another suffix than .png, and as `writable`."""
    if path is not None and path.suffix != ".png":
        raise BadInput(f"{path}: found suffix {path.suffix!r}, expected .png")
    return writable(path)
