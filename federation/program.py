"""A participant as a process of this machine: a fresh program, never forked, that ends with its parent."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from federation.errors import BadInput


class Program:
    """A participant's process, connected by one end of a socket pair; a `Peer`.

    `argv` is its command line, to which `--fd N` is added; its output goes to `log_path` (mode 0600).
    `prepare` is called before each start: what it cannot do, as on a full disk, is a loss of this one alone.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._argv = list(argv)
        self._log_path = log_path
        self._environment = {**os.environ, **(environment or {})}
        self._prepare = prepare
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id, None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def connect(self, seconds: float) -> socket.socket:
        """Start it; raises `BadInput` where it cannot be started."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = self._started(theirs.fileno())
            except OSError as error:
                ours.close()
                where = error.filename or self._log_path.parent
                raise BadInput(f"{self.name}: cannot start: {where}: {error.strerror}") from None
        return ours

    def gone(self) -> bool:
        """Whether it was started and has ended."""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """End it now, from any thread."""
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def end(self) -> str:
        """Kill and forget it; returns how it ended."""
        if self._process is None:
            return "was not started"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.05)
        ended_itself = self.gone()
        self.kill()
        code = self._process.wait()
        self._process = None
        return (
            f"its process ended (exit code {code})"
            if ended_itself
            else "its process ended (connection closed)"
        )

    def _started(self, theirs: int) -> subprocess.Popen[bytes]:
        """Its program, with the other end of the connection; what it prints goes to its log."""
        self._prepare()
        descriptor = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as log:
            return subprocess.Popen(
                [*self._argv, "--fd", str(theirs)],
                pass_fds=(theirs,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
