"""A participant on another machine than the coordinator: it connects, works, and connects again."""

import ctypes
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from federation import identity
from federation.files import write_json
from federation.joining import dial
from federation.keyring import Keyring
from tasks import locks
from tasks.doors import KEY, ONE_THREAD
from tasks.membership import Membership

AGAIN_SECONDS = 2.0
"""Between two looks whether the coordinator listens, which it does while a run is under way."""

TURNED_AWAY_SECONDS = 30.0
"""Until it comes again, after its process has said why it could not work."""

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def join(own: Path, membership: Membership, say: Callable[[str], None]) -> None:
    """Work for the coordinator whenever it listens, in the folder `own`, until it is interrupted.

    Raises `BadInput` where key or certificates are missing, `Refused` where another process does it already.
    """
    identity_of(own, membership)
    with locks.exclusive(own):
        write_json(own / "membership.json", membership.model_dump(mode="json"))
        while True:
            connection = _dialled(membership.coordinator.reached_at, say)
            say("is connected")
            if code := _work(own, connection):
                say(f"its process ended (exit code {code})")
            if code > 0:  # not one that was killed
                time.sleep(TURNED_AWAY_SECONDS)


def identity_of(own: Path, membership: Membership) -> tuple[ssl.SSLContext, bytes, Keyring]:
    """The participant's side of TLS, the coordinator's certificate, and what signs and checks keys.

    Raises `BadInput` for what lacks, also of others.
    """
    coordinator = identity.read_in_date(membership.coordinator.certificate)
    tls = identity.client_side(own / KEY, membership.certificate, coordinator)
    return tls, coordinator, Keyring(membership.name, own / KEY, membership.participants)


def _dialled(address: tuple[str, int], say: Callable[[str], None]) -> int:
    """A connection to the coordinator, as soon as it listens."""
    said = ""
    while True:
        try:
            return dial(address).detach()
        except OSError as error:
            waits = "waits for the coordinator at {}:{} ({})".format(*address, error.strerror or error)
        if waits != said:
            say(said := waits)
        time.sleep(AGAIN_SECONDS)


def _work(own: Path, connection: int) -> int:
    """What became of a process that was given the connection, until that is closed: its exit code.

    It is ended with this one, and by nothing else: an interruption from the keyboard is not for it.
    """
    program = [sys.executable, "-m", "tasks.participant", str(own), "--tls", "--fd", str(connection)]
    process = subprocess.Popen(
        program,
        pass_fds=(connection,),
        env={**os.environ, **ONE_THREAD},
        start_new_session=True,
        preexec_fn=lambda: _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    os.close(connection)  # so that it ends with the process
    return process.wait()
