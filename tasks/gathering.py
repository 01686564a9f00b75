"""Everybody's events, imported and cleaned in one place: what a replay lives through."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from feature_store.catalogue import union, write_catalogue
from feature_store.features import AsOfFeatures
from feature_store.splits import LeaveLastOut
from federation.errors import BadInput
from tasks.membership import Membership
from tasks.rehearsal import Rehearsal, Settings
from tasks.room import Room


def rehearsals(folder: Path, memberships: Sequence[Membership], catalogue: bool) -> dict[str, Rehearsal]:
    """Every participant's events, imported and cleaned below `folder`, in indices of the `catalogue`.

    Where none is configured, the union of the participants' item ids is it.  An event comes when it
    has become known.
    """
    agreed = {} if catalogue else {"catalogue": folder / "catalogue.txt"}
    rooms = []
    for each in memberships:
        if each.source.columns.time is None:
            raise BadInput(f"{each.name}: events.columns.time: found none, expected the column of the times")
        own = each.model_copy(update={"split": LeaveLastOut(), "test": None, **agreed})
        rooms.append(Room(folder / each.name, own))
    versions = [room.import_all().version for room in rooms]
    if not catalogue:
        write_catalogue(agreed["catalogue"], union(room.item_ids() for room in rooms))
    settings = Settings.of(memberships[0].model)
    everyone = {room.name: room.prepared(version, ()) for room, version in zip(rooms, versions, strict=True)}
    return {
        name: Rehearsal(replace(each.data, times=each.known_at), settings, AsOfFeatures(each.history))
        for name, each in everyone.items()
    }
