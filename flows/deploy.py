"""A consortium's deployments: the same whether one process serves them here or workers do elsewhere."""

from datetime import UTC, datetime
from os.path import realpath
from pathlib import Path

from flows.consortium import Consortium
from tasks import timetable
from tasks.automations import ensure_automations
from tasks.deployments import Deployable, deploy, ensure_pool, find
from tasks.order import Order, TrainingOrder
from tasks.timetable import Timetable
from tasks.timing import Timing


def order_of(path: Path, data: Path | None) -> Order:
    """Where the consortium of a command lies, in whole paths."""
    return Order(consortium=path.resolve(), data=data and Path(realpath(data)), folder=Path.cwd())


def deploy_all(consortium: Consortium, order: Order, pool: str, image: str | None = None) -> list[str]:
    """Make or update the deployments and automations at the Prefect server in use; returns their names."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client, timetable.locked(consortium.home):
        ensure_pool(client, pool, image)
        deployed = {}
        for each in deployables(consortium, order, image):
            kept = _timetable(client, consortium, each)
            present = deploy(client, each.at(kept.wanted), pool)
            timetable.apply(client, present.id, consortium.home, each.flow.name, kept)
            deployed[each.full_name] = present.id
        ensure_automations(client, consortium.name, [*deployed.values()], consortium.alerts)
    return [*deployed]


def deployables(consortium: Consortium, order: Order, image: str | None) -> list[Deployable]:
    """What the consortium deploys, as configured."""
    from flows.evaluation import evaluate
    from flows.frequency import adjust_frequency
    from flows.housekeeping import housekeeping
    from flows.scheduled import train_on_schedule

    config, where = consortium.schedule, order.model_dump(mode="json")
    training = TrainingOrder(**order.model_dump(), always=config.always)
    told = training.model_dump(mode="json", exclude={"redo"})
    flows = [
        (train_on_schedule, "flows.scheduled.train_on_schedule", told, training_timing(consortium)),
        (evaluate, "flows.evaluation.evaluate", where, config.every(config.evaluate_hours)),
        (adjust_frequency, "flows.frequency.adjust_frequency", where, config.every(config.adjust_hours)),
        (housekeeping, "flows.housekeeping.housekeeping", where, config.every(config.tidy_hours)),
    ]
    return [
        Deployable(
            flow=flow,
            name=consortium.name,
            entrypoint=entrypoint,
            description=_description(flow.description, consortium),
            parameters={"order": parameters},
            timings=(timing,),
            tags=consortium.tags,
            environment={"PREFECT_LOCAL_STORAGE_PATH": str(consortium.home / "prefect" / "storage")},
            image=image,
        )
        for flow, entrypoint, parameters, timing in flows
    ]


def training_timing(consortium: Consortium) -> Timing:
    """When training runs before any policy has decided: as configured."""
    policy = consortium.frequency.policy
    return consortium.schedule.timing(policy.days if policy.kind == "periodic" else None)


def _timetable(client: object, consortium: Consortium, wanted: Deployable) -> Timetable:
    """The deployment's timetable after a look at configuration and Prefect.

    Without a record (the state folder is new), what Prefect has otherwise than configured is an operator's.
    """
    (configured,), now = wanted.timings, datetime.now(UTC)
    known = timetable.read(consortium.home, wanted.flow.name)
    present = find(client, wanted.full_name)
    found = None if present is None else timetable.found_at(client, present.id)
    if known is None:
        known = Timetable(configured=configured, decided=configured, written=((configured,),))
    return known.configure(configured).seen(found, now)


def _description(text: str | None, consortium: Consortium) -> str:
    members = ", ".join(consortium.names)
    return f"{text or ''}\n\nConsortium **{consortium.name}** of {members}. Made by `chorus`."
