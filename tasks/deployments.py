"""Deployments at a Prefect server, made once and then kept up to date: a second call changes nothing.

Prefect's own `serve` and `deploy` write schedules anew and so undo what a policy or an operator changed.
Here a deployment that exists keeps its schedules; `tasks.timetable` alone changes them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from federation.errors import BadInput
from tasks.server import PATIENT
from tasks.timing import Timing

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

POOL = "chorus"
TRAINING = "train-on-schedule"
"""Name of the flow that trains."""
HEARTBEAT_SECONDS = 30
"""The least that Prefect knows; a run that is silent for more than two of them has ended."""


@dataclass(frozen=True)
class Deployable:
    """One flow as it is to be deployed: what it is called, with what it runs, and when."""

    flow: "Flow[..., Any]"
    name: str
    entrypoint: str
    description: str
    parameters: dict[str, Any]
    timings: tuple[Timing, ...]
    tags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    image: str | None = None

    @property
    def full_name(self) -> str:
        """Its name as Prefect's commands take it: flow/deployment."""
        return f"{self.flow.name}/{self.name}"

    def at(self, timings: tuple[Timing, ...]) -> "Deployable":
        """The same at other times."""
        return replace(self, timings=timings)


def named(verb: str) -> Callable[[], str]:
    """How Prefect's page calls a flow run: the verb and the consortium, whose name is its deployment's."""

    def name() -> str:
        from prefect.runtime import deployment

        return " ".join(filter(None, (verb, deployment.name)))

    return name


def find(client: "SyncPrefectClient", full_name: str) -> "DeploymentResponse | None":
    """The deployment of that name, or none."""
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        return None


def ensure_pool(client: "SyncPrefectClient", pool: str, image: str | None) -> None:
    """A work pool of that name: the one that exists, or a new one that starts processes.

    Raises `BadInput` for a name that Prefect refuses, and where an image is asked for and the pool does not
    exist, or starts processes.
    """
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker
    from pydantic import ValidationError

    template = ProcessWorker.get_default_base_job_template()
    try:
        wanted = WorkPoolCreate(name=pool, type="process", base_job_template=template)
    except ValidationError:
        raise BadInput(f"--pool: found {pool!r}, expected a name without / % & > <") from None
    try:
        kind = client.read_work_pool(pool).type
    except ObjectNotFound:
        kind = "none yet"
    if image is not None and kind in ("none yet", "process"):
        raise BadInput(
            f"work pool '{pool}': found {kind}, expected one that starts containers for {image}; make it "
            f"with `prefect work-pool create {pool} --type docker` (or kubernetes)"
        )
    if kind == "none yet":
        client.create_work_pool(wanted)


def deploy(client: "SyncPrefectClient", wanted: Deployable, pool: str) -> "DeploymentResponse":
    """The deployment as wanted: made, or changed where it differs; its schedules stay as they are.

    Parameters that a person set in Prefect's page stay too, besides those that say where things lie.
    """
    present = find(client, wanted.full_name)
    if present is None:
        return client.read_deployment(_create(client, wanted, pool))
    (argument,) = wanted.parameters
    kept = {**present.parameters.get(argument, {}), **wanted.parameters[argument]}
    fields = _fields(wanted, pool) | {"parameters": {argument: kept}}
    if any(getattr(present, name) != value for name, value in fields.items()):
        _update(client, present.id, fields)
    return client.read_deployment(present.id)


def schedule_now(client: "SyncPrefectClient", deployment_id: Any, since: str) -> None:
    """Have the coming runs made at once: the scheduler's next loop would lose what is due before it."""
    client.request(
        "POST", "/deployments/{id}/schedule", path_params={"id": deployment_id}, json={"start_time": since}
    )


def _create(client: "SyncPrefectClient", wanted: Deployable, pool: str) -> Any:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions

    return client.create_deployment(
        flow_id=client.create_flow(wanted.flow),
        name=wanted.name,
        schedules=[
            DeploymentScheduleCreate(schedule=each.schedule(), active=True) for each in wanted.timings
        ],
        concurrency_limit=1,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        pull_steps=[],
        parameters=wanted.parameters,
        **_fields(wanted, pool),
    )


def _update(client: "SyncPrefectClient", deployment_id: Any, fields: dict[str, Any]) -> None:
    """Changing a deployment drops its coming runs, so they are made anew at once."""
    from datetime import UTC, datetime

    from prefect.client.schemas.actions import DeploymentUpdate

    since = datetime.now(UTC).isoformat()
    client.update_deployment(deployment_id, DeploymentUpdate(**fields))
    schedule_now(client, deployment_id, since)


def _fields(wanted: Deployable, pool: str) -> dict[str, Any]:
    from prefect.utilities.callables import parameter_schema

    heartbeat = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}
    variables: dict[str, Any] = {"env": {**heartbeat, **PATIENT, **wanted.environment}}
    if wanted.image is not None:
        variables["image"] = wanted.image
    return {
        "entrypoint": wanted.entrypoint,
        "description": wanted.description,
        "tags": [*wanted.tags],
        "work_pool_name": pool,
        "job_variables": variables,
        "enforce_parameter_schema": True,
        "parameter_openapi_schema": parameter_schema(wanted.flow).model_dump(exclude_unset=True),
    }
