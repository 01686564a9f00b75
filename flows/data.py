"""Where a consortium's events are: in a folder of this machine, generated, or on machines of others."""

from glob import glob

from feature_store.world import generate
from feature_store.world_files import sources
from federation.errors import BadInput
from flows.consortium import Consortium


def require_data(consortium: Consortium, joins: bool = False) -> None:
    """Raise `BadInput` where the folder of data is missing; a world's is made when it is needed.

    A coordinator whose participants are all elsewhere needs none, but who `joins` does.
    """
    needed = (
        joins
        or consortium.catalogue
        or consortium.content
        or len(consortium.remote) < len(consortium.participants)
    )
    if needed and consortium.world is None and not consortium.data.is_dir():
        raise BadInput(
            f"data: found no folder {consortium.data}, expected where the participants' paths start"
        )


def require_here(consortium: Consortium, what: str) -> None:
    """Raise `BadInput` where `what` needs everybody's events here, and some connect from other machines."""
    if consortium.remote:
        raise BadInput(
            f"{what} reads everybody's events on one machine; found {', '.join(consortium.remote)}, which "
            "connect from others"
        )


def generate_world(consortium: Consortium) -> None:
    """Write its world's events where they are not there yet; `BadInput` where one's are other files."""
    if consortium.world is not None:
        generate(consortium.world, consortium.data, consortium.names)
        for each in consortium.participants:
            if each.events and not glob(each.events.path, root_dir=consortium.data):
                told, expected = each.events.path, sources(consortium.names)[each.name]
                raise BadInput(
                    f"participants.{each.name}.events: found {told}, which the world does not write; "
                    f"expected {expected.model_dump_json(exclude_defaults=True)}"
                )
