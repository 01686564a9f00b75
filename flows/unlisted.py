"""Events that are left out since the catalogue does not know their items, as new ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.tables import console


def unlisted(participants: Mapping[str, Mapping[str, Any]]) -> str:
    """Of each who tells it, how many of its events are left out; empty where none are."""
    told = [
        f"{each['unlisted']:,} of {each['rows']:,} events of {name}"
        for name, each in participants.items()
        if each.get("unlisted")
    ]
    return ", ".join(told)


def warn_of_unlisted(participants: Mapping[str, Mapping[str, Any]], catalogue: Path) -> None:
    """Print it, and what takes them in."""
    if told := unlisted(participants):
        console.print(
            f"Warning: {catalogue} leaves out {told}, whose items it does not know; add them at its end",
            soft_wrap=True,
        )
