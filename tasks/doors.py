"""Doors to the participants: to programs on this machine, and to those that connect from others."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from federation import identity
from federation.door import Door
from federation.files import write_json
from federation.listener import Listener, Remote
from federation.program import Program
from tasks.membership import Membership

KEY = "identity.key"
"""The file of the key, in the folder of the participant, or of the coordinator, that it is of."""


@contextmanager
def open_doors(home: Path, memberships: Sequence[Membership]) -> Iterator[dict[str, Door]]:
    """A door to each participant, which is told its part; the processes end with the block, or this one."""
    remote = {each.name: each for each in memberships if each.certificate is not None}
    with ExitStack() as stack:
        doors = {each.name: door_to(home, each.name, each) for each in memberships if each.name not in remote}
        certificates = {name: identity.read(each.certificate) for name, each in remote.items()}
        listener = _listener(home, remote, certificates) if remote else nullcontext()
        for name, each in remote.items():
            there = Remote(name, listener, each.rounds.ready_seconds)
            doors[name] = Door(name, there, certificates[name])
        for door in doors.values():
            stack.enter_context(door)
        stack.enter_context(listener)  # it ends first, and with it the waiting for who has not come
        yield {each.name: doors[each.name] for each in memberships}


def door_to(home: Path, name: str, told: Membership | None = None) -> Door:
    """A door to a participant's process, which computes in one thread.

    It goes by what it is `told` when it starts; without, by what it was told last.
    """
    own = home / "participants" / name
    program = [sys.executable, "-m", "tasks.participant", str(own)]

    def tell() -> None:
        if told is not None:
            write_json(own / "membership.json", told.model_dump(mode="json"))

    return Door(name, Program(name, program, own / "participant.log", ONE_THREAD, tell))


ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""The environment of a participant's process."""


def _listener(home: Path, remote: dict[str, Membership], certificates: dict[str, bytes]) -> Listener:
    """Where they connect; each is known by its certificate alone."""
    coordinator = next(iter(remote.values())).coordinator
    key = home / "coordinator" / KEY
    tls = identity.server_side(key, coordinator.certificate, certificates.values())
    return Listener(coordinator.listens_at, tls, certificates, lambda text: print(text, file=sys.stderr))
