"""Events that are left out since the catalogue does not know their items, as new ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.consortium import Consortium
from flows.tables import console, typed, typed_file


def unlisted(participants: Mapping[str, Mapping[str, Any]]) -> str:
    """Of each who tells it, how many of its events are left out; empty where none are."""
    told = [
        f"{each['unlisted']:,} of {each['rows']:,} events of {name}"
        for name, each in participants.items()
        if each.get("unlisted")
    ]
    return ", ".join(told)


def warn_of_unlisted(
    participants: Mapping[str, Mapping[str, Any]], consortium: Consortium, path: Path, data: Path | None
) -> None:
    """Print it, and what takes them in."""
    if not (told := unlisted(participants)):
        return
    mend = "add them there"
    if consortium.catalogue is None:
        mend = f"to add them: {typed()} init --catalogue {typed_file(path, data)}"
    known = consortium.catalogue_path
    console.print(f"Warning: {known} leaves out {told}, whose items it does not know; {mend}", soft_wrap=True)
