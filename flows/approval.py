"""A person's approval, asked for in Prefect's own page while the flow run is paused."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Timer
from typing import Any
from uuid import UUID, uuid4

from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run

from flows.consortium import Consortium
from tasks.champion import answer
from tasks.runs import find_run

POLL_SECONDS = 5
GRACE_SECONDS = 3_600
"""By which Prefect's timeout is later than ours: it fails the run."""


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
    with _silence_answers(hours):
        told = pause_flow_run(
            wait_for_input=form,
            timeout=int(hours * 3_600) + GRACE_SECONDS,
            poll_interval=POLL_SECONDS,
            key=str(uuid4()),  # or a retry takes the pause for answered, by the form's default
        )
    folder = find_run(consortium.home, figures["run"])
    return answer(told.promote, told.reason, consortium.mlflow(), consortium.name, folder)


@contextmanager
def _silence_answers(hours: float) -> Iterator[None]:
    """After `hours` the form is filled in for who did not."""
    told = {"promote": False, "reason": f"Nobody answered within {hours:g} hours."}
    silence = Timer(hours * 3_600, copy_context().run, (resume_flow_run, UUID(flow_run.id), told))
    silence.daemon = True
    silence.start()
    try:
        yield
    finally:
        silence.cancel()
