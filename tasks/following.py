"""The catalogue at a participant on another machine: it is told the digest, and reads what its own lacks."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from feature_store.catalogue import digest, read_catalogue, write_catalogue
from federation.channel import Channel, Vector
from federation.door import Read
from federation.errors import BadInput, Refused

if TYPE_CHECKING:
    from tasks.jobs import Job, Told
    from tasks.room import Room

NAME = "catalogue"
"""By which it is read, as opened sums are by theirs."""


def told_of(catalogue: Path, items: int | None) -> "Told":
    """What a job is told of the catalogue: how many of its `items` count, all if none, and their digest."""
    return {"items": items, NAME: _known(catalogue, items)}


def readable(catalogue: Path, items: int | None, opened: Read | None) -> Read:
    """What a participant may read: the catalogue, as text, and sums by `opened`; none: no sums."""

    def read(name: str) -> Vector:
        if name == NAME:
            ids = read_catalogue(catalogue)[:items].to_pylist()
            return np.frombuffer("\n".join(ids).encode(), np.uint8)
        if opened is None:
            raise Refused(f"may not read {name!r}: it is in no sum of this run")
        return opened(name)

    return read


def follow(room: "Room", job: "Job", told: "Told", channel: Channel) -> "Told":
    """What `job` returns, once the room has the catalogue that the job is told of.

    Raises `BadInput` where one is configured, and is another, `Refused` where what is read is none.
    """
    _have(room, told, channel)
    return job(room, told, channel)


def _have(room: "Room", told: "Told", channel: Channel) -> None:
    path = room.membership.catalogue
    if NAME not in told or _known(path, told["items"]) == told[NAME]:
        return
    if not room.membership.catalogue_grows:
        raise BadInput(f"{room.name}: {path}: found other items than the coordinator's, expected the same")
    if told[NAME] is None:
        path.unlink()
        return
    told_ids = channel.read(NAME).tobytes()
    try:
        write_catalogue(path, told_ids.decode().split("\n"))
    except ValueError:  # whose text would tell where the own file is
        raise Refused(f"{room.name}: what it read as the catalogue is no list of item ids") from None


def _known(catalogue: Path, items: int | None) -> str | None:
    """The digest of what lies there; none for nothing."""
    if not catalogue.exists():
        return None
    state = catalogue.stat()
    return _digest(catalogue, items, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _digest(catalogue: Path, items: int | None, _changed_at: int, _size: int) -> str:
    return digest(catalogue, items)
