"""Who works on a state folder, and who serves it: one process at a time, told by locks that end with it."""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from federation.errors import Refused

GLANCE_SECONDS = 0.2
"""More than a look at who has locked a file takes."""
LEASH_SECONDS = 20.0
"""How long what a killed process had started may take to end."""


@contextmanager
def exclusive(
    home: Path, patience_seconds: float = 0.0, say: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """One process at a time on a state folder; raises `Refused`, naming the other, where there is one.

    It waits for the other for `patience_seconds` before, and does `say` so.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "lock").open("a+") as lock:
        if not _lock(lock, GLANCE_SECONDS):
            lock.seek(0)
            used = f"{home} is in use by process {lock.read().strip() or 'unknown'}"
            say(f"{used}: waits for it")
            if not _lock(lock, patience_seconds):
                raise Refused(f"{used}; wait for it, or use another state folder")
        _note(lock, me())
        yield


@contextmanager
def serving(home: Path, url: str) -> Iterator[IO[str]]:
    """Whoever needs a server on this state folder uses the one at `url` until the block ends.

    What the block starts should hold the file that it gets, so that the next one waits until all has ended.
    Raises `Refused` where another process serves.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "serving").open("a+") as file:
        if not _lock(file, LEASH_SECONDS):
            raise Refused(f"{home} is served already, at {served(home)}; stop that, or use its pages")
        _note(file, url)
        yield file
        file.truncate(0)


def served(home: Path) -> str | None:
    """The URL of the server that `chorus serve` runs on this state folder; none where it does not run."""
    return _holder(home / "serving")


def me() -> str:
    """This process: its id, and the machine or container that this is an id of."""
    return f"{os.getpid()} on {socket.gethostname()}"


def user(home: Path) -> str | None:
    """The process that works on this state folder, as `me` tells it; none where none does."""
    return _holder(home / "lock")


def _holder(path: Path) -> str | None:
    """What the process that has locked the file has written there; none where none has."""
    if not path.is_file():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or None
    return None


def _lock(file: IO[str], patience_seconds: float) -> bool:
    """Whether the lock was free, or became so in time."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.2)


def _note(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()
