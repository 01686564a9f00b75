"""Recommendations from models that are already trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from federation.errors import BadInput
from mlruns_config.tracking import Tracking
from tasks.membership import Membership
from tasks.opening import Settings
from tasks.run import open_doors


def ask_participant(
    home: Path, memberships: Sequence[Membership], participant: str, run: str, user: str, top: int
) -> dict[str, Any]:
    """Items and scores for one of the participant's users, answered in the participant's own process."""
    chosen = [each for each in memberships if each.name == participant]
    if not chosen:
        names = ", ".join(each.name for each in memberships)
        raise BadInput(f"participant '{participant}' is not known; expected one of {names}")
    with open_doors(home, chosen) as doors:
        return doors[participant].ask("recommend", {"run": run, "user": user, "top": top})


def ask_common(home: Path, settings: Settings, history: Sequence[str], top: int) -> dict[str, Any]:
    """Items and scores for a history, from the consortium's registered champion."""
    answer = Tracking(settings.tracking, home).champion(settings.name)(
        [{"history": list(history), "k": top}]
    )[0]
    return {"items": answer.items, "scores": answer.scores}
