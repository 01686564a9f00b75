"""For organisations on machines of their own: who they are, and taking part from there."""

from pathlib import Path

from federation import identity
from federation.errors import BadInput
from flows.consortium import Consortium, read_consortium
from flows.data import generate_world, require_data
from flows.participant import Participant
from flows.tables import console
from tasks import joining
from tasks.doors import KEY


def make_identity(path: Path, name: str | None) -> None:
    """Make the key of the participant `name`, none: of the coordinator, and the certificate in the file."""
    consortium = read_consortium(path)
    if name is not None:
        key, certificate = consortium.own_folder(name) / KEY, _remote(consortium, name).certificate
    elif consortium.coordinator is not None:
        key, certificate = consortium.home / "coordinator" / KEY, consortium.coordinator.certificate
    else:
        raise BadInput(f"{path}: coordinator: found none, expected its address and its certificate")
    identity.create(name or "coordinator", key, certificate)
    console.print(
        f"Wrote {certificate}: give it to every organisation. The key stays here, in {key}.", soft_wrap=True
    )


def join(path: Path, name: str, data: Path | None) -> None:
    """Take part as the participant `name`, whenever the coordinator trains, until Ctrl-C."""
    consortium = read_consortium(path, data)
    participant = _remote(consortium, name)
    if participant.events is None:
        raise BadInput(f"{path}: participants.{name}.events: found none, expected its event files")
    require_data(consortium, joins=True)
    generate_world(consortium)
    joining.join(consortium.own_folder(name), consortium.membership(participant))


def _remote(consortium: Consortium, name: str) -> Participant:
    """The participant of that name; raises `BadInput` for one that the file has not, or on this machine."""
    if name not in consortium.names:
        known = ", ".join(consortium.names)
        raise BadInput(f"participant '{name}' is not known; expected one of {known}")
    found = next(each for each in consortium.participants if each.name == name)
    if found.certificate is None:
        raise BadInput(f"participants.{name}.certificate: found none, expected the file of its certificate")
    return found
