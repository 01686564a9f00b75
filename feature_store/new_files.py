"""Which files of a source are to be imported, and whether they stay what they were meanwhile."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from feature_store.cleaning import CleaningRules
from feature_store.errors import BadData
from feature_store.manifest import Manifest
from feature_store.partitions import file_hash
from feature_store.sources import Source


class File(NamedTuple):
    """A file that is to be read."""

    path: Path
    digest: str
    state: tuple[int, ...]  # taken before the digest was


def settings_of(source: Source, rules: CleaningRules) -> str:
    """SHA-256 of how files are read and cleaned."""
    read = source.model_dump_json(exclude={"path"})
    read += source.aliases.digest if source.aliases else ""
    return hashlib.sha256((read + rules.model_dump_json()).encode()).hexdigest()


def new_files(source: Source, settings: str, manifest: Manifest) -> dict[str, File]:
    """The files that are not in the store yet, by digest.

    Raises `BadData` where one cannot be read, and where one was imported under other settings.
    """
    known = {digest: done.settings for done in manifest.imports for digest in done.files}
    files: dict[str, File] = {}
    for file in _files(source):
        if known.get(file.digest, settings) != settings:
            raise BadData(
                f"{file.path}: found in the store already, read or cleaned with other settings;"
                " expected the same settings, or a store in a new folder"
            )
        if file.digest not in known:
            files.setdefault(file.digest, file)
    return files


def _files(source: Source) -> list[File]:
    try:
        return [File(path, state=_state(path), digest=file_hash(path)) for path in source.files()]
    except OSError as error:
        place = error.filename or source.path
        raise BadData(f"{place}: expected files that can be read, found: {error.strerror}") from error


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file is written to or replaced; nothing where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def require_unchanged(files: list[File]) -> None:
    """Raise `BadData` where not what a digest stands for may have been read: half of a file, or another."""
    for file in files:
        if _state(file.path) != file.state:
            raise BadData(f"{file.path}: found it changed while it was read, expected a finished file")
