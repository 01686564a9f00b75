"""Keep a server on a leash: `python tasks/leash.py COMMAND...` ends the command when its own parent ends.

Standard input is the leash: a pipe whose other end the parent holds. When it closes, even because
the parent was killed, the command's whole process group gets SIGTERM, and SIGKILL soon after.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

PATIENCE = 8.0


def main() -> int:
    """Run the command until it ends or the leash is let go; returns its exit code."""
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_watch, args=(process,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=_end, args=(process,)).start())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = process.wait()
    _signal(process, signal.SIGKILL)
    return code


def _watch(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1024):
        pass
    _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


if __name__ == "__main__":
    sys.exit(main())
