"""What Prefect's server has stored of flow runs: waited for before it stops, mended after a crash.

Prefect is imported only after its settings stand in the environment; so nothing here imports it early.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@contextmanager
def without_heartbeats() -> Iterator[None]:
    """Flows in the block send no heartbeats, whose thread ends up to a second after the flow.

    They are for automations that watch deployments; what a command began is found by the next one.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def settle(flow_run_id: UUID | None, expected: int = 0, limit_seconds: float = 60.0) -> bool:
    """Wait until the server has stored a final state of every task run of the flow run and its subflows.

    States travel as events and are written seconds later; a server that is stopped before loses them.
    `expected` is how many task runs there are at least; without it, a count that stands still for
    two seconds will do.  Returns whether all, and the flow run, were final within the limit.
    """
    from prefect.client.orchestration import get_client

    if flow_run_id is None:
        return True
    deadline, counts = time.monotonic() + limit_seconds, [-1]
    send_rest(limit_seconds)
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            family = [client.read_flow_run(flow_run_id), *_children(client, flow_run_id)]
            ended = all(each.state is not None and each.state.is_final() for each in family)
            counts.append(_count(client, family))
            stands = len(counts) > 8 and len(set(counts[-8:])) == 1 and counts[-1] >= expected
            if stands and ended and not any(_is_under_way(client, each) for each in family):
                return True
            time.sleep(0.25)
    return False


def send_rest(limit_seconds: float = 10.0) -> None:
    """Send the server the states and lines that this process has not sent yet.

    At its exit Prefect would send them, and wait for a minute where the server has ended.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=limit_seconds, at_exit=False)


def _children(client: Any, flow_run_id: UUID) -> list[Any]:
    """The flow's subflows: runs of their own, which its own task runs do not list."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    chosen = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run_id]))
    return list(client.read_flow_runs(flow_run_filter=chosen))


def _count(client: Any, family: Sequence[Any]) -> int:
    """How many task runs of these flow runs the server knows: counted there, so that asking costs little."""
    chosen = {"id": {"any_": [str(each.id) for each in family]}}
    return int(client.request("POST", "/task_runs/count", json={"flow_runs": chosen}).json())


def _is_under_way(client: Any, flow_run: Any) -> bool:
    """Whether its newest attempt has task runs without a final state."""
    found = _unfinished_tasks(client, flow_run.id)
    return any(each.flow_run_run_count == flow_run.run_count for each in found)


def _unfinished_tasks(client: Any, flow_run_id: UUID) -> list[Any]:
    """The flow run's task runs, of all its attempts, without a final state: one page of them."""
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import TaskRunSort

    open_types = [each for each in StateType if each.value not in FINAL]
    found = client.read_task_runs(
        flow_run_filter=filters.FlowRunFilter(id=filters.FlowRunFilterId(any_=[flow_run_id])),
        task_run_filter=filters.TaskRunFilter(
            state=filters.TaskRunFilterState(type=filters.TaskRunFilterStateType(any_=open_types))
        ),
        sort=TaskRunSort.EXPECTED_START_TIME_DESC,
    )
    return list(found)


def unfinished(home: Path) -> list[str]:
    """Flow runs over the state folder `home` that a command began and that have no final state."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterState
    from prefect.client.schemas.filters import FlowRunFilterStateType as OfType
    from prefect.client.schemas.objects import StateType

    chosen = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(is_null_=True),
        state=FlowRunFilterState(type=OfType(any_=[StateType.PENDING, StateType.RUNNING])),
    )
    with get_client(sync_client=True) as client:
        found, page = list[Any](), list[Any]()
        while page := client.read_flow_runs(flow_run_filter=chosen, offset=len(found), limit=200):
            found += page
    return [str(each.id) for each in found if _over(each.parameters.get("consortium"), home)]


def _over(consortium: Any, home: Path) -> bool:
    told = consortium if isinstance(consortium, dict) else {}
    return Path(str(told.get("state"))) / str(told.get("name")) == home


def mark_tagged_crashed(tags: Sequence[str], message: str) -> None:
    """All flow runs with these tags that say that they run, wait or are about to are said to have crashed."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType

    under_way = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
    chosen = filters.FlowRunFilter(
        tags=filters.FlowRunFilterTags(all_=[*tags]),
        state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=under_way)),
    )
    with get_client(sync_client=True) as client:
        found = [str(each.id) for each in client.read_flow_runs(flow_run_filter=chosen)]
    mark_crashed(found, message)


def mark_crashed(flow_run_ids: Sequence[str], message: str) -> None:
    """Flow runs whose process is gone, but that still say that they run, are said to have crashed.

    So are their task runs.
    """
    if not flow_run_ids:
        return
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    with get_client(sync_client=True) as client:
        for flow_run_id in flow_run_ids:
            try:
                state = client.read_flow_run(UUID(flow_run_id)).state
            except ObjectNotFound:
                continue
            if state is None or not state.is_final():
                for each in _unfinished_tasks(client, UUID(flow_run_id)):
                    client.set_task_run_state(each.id, Crashed(message=message), force=True)
                client.set_flow_run_state(UUID(flow_run_id), Crashed(message=message), force=True)
