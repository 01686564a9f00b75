"""Keep a server on a leash: `python leash.py COMMAND...` ends the command when its own parent ends.

Standard input is the leash: a pipe whose other end the parent holds. When it closes, even because
the parent was killed, the command and all that it started get SIGTERM, and SIGKILL soon after.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

PATIENCE = 10.0
"""Seconds from SIGTERM to SIGKILL."""
PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Run the command until it ends or the leash is let go; returns its exit code."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the command stay below us
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=_end, daemon=True).start())
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, daemon=True).start()
    code = process.wait()
    _signal(signal.SIGKILL)
    return code


def _watch() -> None:
    while os.read(0, 1024):
        pass
    _end()


def _end() -> None:
    _signal(signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while descendants(os.getpid()) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(signal.SIGKILL)


def _signal(number: int) -> None:
    for pid in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def descendants(pid: int) -> list[int]:
    """All living processes that descend from `pid`."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, children.read_text().split()):
                found += [child, *descendants(child)] if _lives(child) else []
    return found


def _lives(pid: int) -> bool:
    """Whether it still runs: an orphan that has ended stays a zombie below us."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


if __name__ == "__main__":
    sys.exit(main())
