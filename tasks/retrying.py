"""A scheduled run, tried again where it ran, as by the button in Prefect's page; and a wait for its end."""

import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from federation.errors import ChorusError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.states import State

WAIT_SECONDS = 120.0
"""How long a worker may take to begin."""


def retry(client: "SyncPrefectClient", flow_run_id: str, redo: str | None) -> bool:
    """Have a worker go on with the flow run; whether it is one of a deployment, and ended without success.

    The flow run stays the same one, and so do the run that it trains and the run at MLflow.
    """
    from prefect.exceptions import ObjectNotFound
    from prefect.states import AwaitingRetry

    try:
        flow_run = client.read_flow_run(UUID(flow_run_id))
    except ObjectNotFound:
        return False
    state = flow_run.state
    if flow_run.deployment_id is None or state is None or not state.is_final() or state.is_completed():
        return False
    if redo is not None:
        order = {**flow_run.parameters["order"], "redo": redo}
        client.update_flow_run(flow_run.id, parameters={"order": order})
    client.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)
    return True


def wait(client: "SyncPrefectClient", flow_run_id: str) -> None:
    """Until the flow run has completed; raises `ChorusError`, with the reason, where it ends otherwise.

    So it does where it was skipped, which leaves no figures.  A run that no worker takes within
    `WAIT_SECONDS` is left to the next worker, and said so.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while not (state := _state(client, flow_run_id)).is_final():
        if state.is_scheduled() and time.monotonic() > deadline:
            raise ChorusError("no worker has taken the run; it goes on when one does: chorus serve")
        time.sleep(0.5)
    if not state.is_completed() or state.name == "Skipped":
        raise ChorusError(f"the run ended as {state.name}: {state.message}")


def _state(client: "SyncPrefectClient", flow_run_id: str) -> "State[Any]":
    state = client.read_flow_run(UUID(flow_run_id)).state
    assert state is not None
    return state
