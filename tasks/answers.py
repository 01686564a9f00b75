"""Recommendations from models that are already trained."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from federation.errors import BadInput
from federation.files import read_json
from mlruns_config.tracking import Tracking
from tasks.doors import door_to
from tasks.membership import Membership
from tasks.opening import Settings


def ask_participant(
    home: Path, names: Sequence[str], participant: str, run: str, user: str, top: int
) -> dict[str, Any]:
    """Items and scores for one of the participant's users, answered in the participant's own process.

    It goes by what it was told in its last run, wherever that had its files.  Nothing is written, but in
    its own folder what was shown, where the consortium explores.
    """
    if participant not in names:
        raise BadInput(f"participant '{participant}' is not known; expected one of {', '.join(names)}")
    if not (told := home / "participants" / participant / "membership.json").is_file():
        raise BadInput(
            f"{told}: found none, expected what '{participant}' is told when a run begins; ask one that "
            "joins from another machine there"
        )
    rounds = read_json(told, Membership.model_validate_json).rounds
    asked = {"run": run, "user": user, "top": top}
    with door_to(home, participant) as door:
        return door.ask("recommend", asked, deadline_seconds=rounds.deadline_seconds)


def ask_common(home: Path, settings: Settings, history: Sequence[str], top: int) -> dict[str, Any]:
    """Items and scores for a history, from the consortium's registered champion.

    Raises `BadInput` for an item that it does not know: the model itself would leave it out silently.
    """
    champion = Tracking(settings.tracking, home).champion(settings.name)
    everything, answer = champion([{"k": sys.maxsize}, {"history": list(history), "k": top}])
    if unknown := sorted(set(history) - set(everything.items)):
        raise BadInput(f"--history: found {unknown[0]!r}, expected ids of items that the champion knows")
    return {"items": answer.items, "scores": answer.scores}
