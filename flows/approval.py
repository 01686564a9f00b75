"""A person's approval, asked for in Prefect's own page while the flow run is paused."""

from typing import Any
from uuid import uuid4

from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput

from flows.consortium import Consortium
from mlruns_config.tracking import Tracking
from tasks.champion import answer
from tasks.runs import find_run

POLL_SECONDS = 5


class Approval(RunInput):
    """The form in Prefect's page."""

    promote: bool
    reason: str = ""


def approved(figures: dict[str, Any], consortium: Consortium) -> dict[str, Any]:
    """The figures after a person has decided, where the gate leaves it to one; silence keeps the champion.

    The training is finished and has let go of the state folder by now, so that only this flow run waits.
    """
    gate = figures["gate"]
    if not gate["waits"]:
        return figures
    form = Approval.with_initial_data(
        description=f"**{consortium.name}: make version {figures['model_version']} the champion?**\n\n"
        f"{gate['reason']}",
        promote=True,
        reason="",
    )
    hours = consortium.gate.approval_hours
    try:
        told = pause_flow_run(
            wait_for_input=form,
            timeout=int(hours * 3_600),
            poll_interval=POLL_SECONDS,
            key=str(uuid4()),  # or a retry takes the pause for answered, by the form's default
        )
        promote, reason = told.promote, told.reason
    except FlowPauseTimeout:
        promote, reason = False, f"Nobody answered within {hours:g} hours."
    tracking, folder = (
        Tracking(consortium.tracking, consortium.home),
        find_run(consortium.home, figures["run"]),
    )
    return answer(promote, reason, tracking, consortium.name, folder)
