"""What a participant is told of a job: it follows it, and says by a digest what it was.

Of the catalogue it is told the digest; one on another machine reads what its own lacks.  Of the file of the
items' content it is told the digest, too, and has a copy of its own, of the same bytes.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from feature_store.catalogue import check_ids, digest, digest_of, read_catalogue, write_catalogue
from feature_store.content import digest as digest_of_content
from federation.channel import Channel, Vector
from federation.door import Read
from federation.errors import BadInput, Refused
from federation.files import named, read_json, write_json
from federation.told import digest as digest_of_told

if TYPE_CHECKING:
    from tasks.jobs import Job, Told
    from tasks.room import Room

CONTENT = "content"
NAME = "catalogue"
"""By which it is read, as opened sums are by theirs."""

OWN = {"version"}
"""What each participant is told of itself alone."""

ADDS = {"items", "cuts", "gather", "grow", "average", "look", "evaluate", "judge"}
"""Jobs of a round that keep no work: the digests of their sums hold what they are told."""

CHECKED = {"learn"}
"""Jobs whose work begins with another network at each, and is checked by the job that adds it."""

TOLD = "told.json"
"""What the kept work of a round was told: job by digest.  Work that is done anew may find some of before, so
none is dropped until the round is."""


def told_of(catalogue: Path, items: int | None, content: str | None = None) -> "Told":
    """What a job is told of the catalogue: how many of its `items` count, all if none, and their digest.

    And the digest of the items' `content`, if there is one.
    """
    return {"items": items, NAME: _known(catalogue, items), CONTENT: content}


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

    What is told for work that a later sum is made of is noted first.  Raises `BadInput` where a catalogue or
    content is configured, and is another, `Refused` where what is read is none.
    """
    _require_content(room, told)
    _have(room, told, channel)
    if "number" in told and job.__name__ not in ADDS | CHECKED:
        _note(room, job.__name__, told)
    return job(room, told, channel)


def alike(room: "Room", job: str, told: "Told") -> "Told":
    """What all of a cohort are told alike for `job`, the work that was kept for it included."""
    kept = room.home.glob(f"work/{named(told['run'])}/*/{TOLD}")
    return {**_alike(room, job, told), "kept": {path.parent.name: dict(read_json(path)) for path in kept}}


def _alike(room: "Room", job: str, told: "Told") -> "Told":
    """The same of this job alone; of catalogue and content, the digests of what lies there."""
    common = {key: value for key, value in told.items() if key not in OWN}
    common.setdefault(CONTENT, digest_of_content(room.membership.content))
    if NAME not in told:
        common[NAME] = _known(room.membership.catalogue, told.get("items"))
    return {"job": job, "told": common}


def _note(room: "Room", job: str, told: "Told") -> None:
    path = room.work(told["run"], told["number"]) / TOLD
    known = read_json(path) if path.is_file() else {}
    write_json(path, {**known, digest_of_told(_alike(room, job, told)).hex(): job})


def _require_content(room: "Room", told: "Told") -> None:
    """What the own copy says of items is known at home, so it is not read as the catalogue is."""
    path = room.membership.content
    if CONTENT in told and told[CONTENT] != digest_of_content(path):
        raise BadInput(
            f"{room.name}: content: found {path or 'none'}, expected a file of the same bytes as the "
            "coordinator's"
        )


def _have(room: "Room", told: "Told", channel: Channel) -> None:
    path = room.membership.catalogue
    if NAME not in told or _known(path, told["items"]) == told[NAME]:
        return
    if not room.membership.catalogue_grows:
        raise BadInput(f"{room.name}: {path}: found other items than the coordinator's, expected the same")
    room.prepared.cache_clear()  # it was of the other one
    if told[NAME] is None:
        path.unlink()
        return
    try:
        ids = channel.read(NAME).tobytes().decode().split("\n")
        check_ids(ids, NAME)
    except ValueError:  # whose text would tell the ids
        raise Refused(f"{room.name}: what it read as the catalogue is no list of item ids") from None
    if digest_of(ids) != told[NAME]:  # masks are bound to the digest alone
        raise Refused(f"{room.name}: what it read as the catalogue is another than it was told of")
    write_catalogue(path, ids)


def _known(catalogue: Path, items: int | None) -> str | None:
    """The digest of what lies there; none for nothing."""
    if not catalogue.exists():
        return None
    state = catalogue.stat()
    return _digest(catalogue, items, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _digest(catalogue: Path, items: int | None, _changed_at: int, _size: int) -> str:
    return digest(catalogue, items)
