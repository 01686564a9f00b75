"""A participant on another machine than the coordinator: it connects, works, and connects again."""

import ctypes
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

from federation import identity
from federation.files import write_json
from federation.joining import dial, welcomed
from federation.keyring import Keyring
from tasks import locks
from tasks.doors import KEY, ONE_THREAD
from tasks.membership import Membership

AGAIN_SECONDS = 2.0
"""Between two looks whether the coordinator listens, which it does while a run is under way."""

FAILED_SECONDS = 30.0
"""Until another process is started where one failed by itself, as the next may: it was turned away."""

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def join(own: Path, membership: Membership) -> None:
    """Work for the coordinator whenever it listens, in the folder `own`, until it is interrupted.

    Raises `BadInput` where key or certificates are missing, `Refused` where another process does it already.
    """
    _identity(own, membership)
    with locks.exclusive(own):
        write_json(own / "membership.json", membership.model_dump(mode="json"))
        while True:  # a process for each run, as on the coordinator's machine
            if code := _worked(own):
                _say(membership, f"its process ended (exit code {code})")
            time.sleep(FAILED_SECONDS if code > 0 else AGAIN_SECONDS)


def connected(own: Path, membership: Membership) -> tuple[ssl.SSLSocket, Keyring]:
    """A connection to the coordinator, as soon as it listens, and the keys by which others are known.

    Raises `Refused` where one of the two does not know the other, `BadInput` as `join`.
    """
    address, said = membership.coordinator.reached_at, ""
    while True:
        try:
            plain = dial(address)
            tls, coordinator, keyring = _identity(own, membership)  # as they are now, after days perhaps
            connection = welcomed(plain, tls, coordinator)
        except OSError as error:
            waits = "waits for the coordinator at {}:{} ({})".format(*address, error.strerror or error)
        else:
            _say(membership, "is connected")
            return connection, keyring
        if waits != said:
            _say(membership, said := waits)
        time.sleep(AGAIN_SECONDS)


def _identity(own: Path, membership: Membership) -> tuple[ssl.SSLContext, bytes, Keyring]:
    """The participant's side of TLS, the coordinator's certificate, and the keyring."""
    coordinator = identity.read_in_date(membership.coordinator.certificate)
    tls = identity.client_side(own / KEY, membership.certificate, coordinator)
    return tls, coordinator, Keyring(membership.name, own / KEY, membership.certificates)


def _worked(own: Path) -> int:
    """The exit code of a process that has connected and worked until the connection was closed.

    It is ended with this one, and by nothing else: an interruption from the keyboard is not for it.
    """
    return subprocess.run(
        [sys.executable, "-m", "tasks.participant", str(own), "--join"],
        env={**os.environ, **ONE_THREAD},
        start_new_session=True,
        preexec_fn=lambda: _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
    ).returncode


def _say(membership: Membership, text: str) -> None:
    print(f"{membership.name}: {text}", file=sys.stderr)
