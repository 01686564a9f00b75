"""Whether the flow run that asks was made of a schedule that is gone: a rare race in Prefect's scheduler."""

from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.runtime import deployment, flow_run

from tasks import timetable
from tasks.deployments import TRAINING

SCHEDULED = "auto-scheduled"
"""Prefect's tag of what its scheduler made."""


def strays(home: Path) -> bool:
    """True for a first attempt of the scheduler's whose moment no schedule names any more."""
    known = timetable.read(home, TRAINING)
    if known is None or SCHEDULED not in flow_run.tags or flow_run.run_count > 1:
        return False
    with get_client(sync_client=True) as client:
        found = timetable.found_at(client, UUID(deployment.id))
    return known.strays(flow_run.scheduled_start_time, found)
