"""On which engine heavy preparation runs: here, in processes, on Dask or on Ray; the rounds never leave.

A training holds sockets to its participants, which cannot travel.  What can travel is a task that is told
names and folders: importing, checking and cleaning a participant's files.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from feature_store.errors import BadData
from federation.errors import BadInput
from federation.frozen import Frozen
from federation.messages import from_message, to_message
from tasks.membership import Membership


class EngineConfig(Frozen):
    """The engine of heavy preparation; a simulation of many participants outgrows one machine on it."""

    kind: Literal["threads", "processes", "dask", "ray"] = Field(
        "threads",
        description="threads: each participant imports in its own process; processes, dask, ray: before the "
        "run, by tasks on that engine, whose machines must see the state folder (extras chorus[dask], [ray])",
    )
    workers: Annotated[int, Field(ge=1)] = Field(2, description="processes of an engine that is started here")
    address: str | None = Field(
        None, description="of a Dask scheduler or Ray cluster that runs already; none: one is started here"
    )


def import_everywhere(home: Path, memberships: Sequence[Membership], config: EngineConfig) -> None:
    """Import the files of every participant of this machine on the engine.

    What is imported, the participants' own processes find done; where an import failed, they meet the same
    error when they prepare, and tell it.  Raises `BadInput` where nothing answers at the engine's address.
    """
    if config.kind == "threads":
        return
    with _engine(config) as engine:
        try:
            asked = [
                engine.submit(_task(), {"folder": home / "participants" / each.name, "membership": each})
                for each in memberships
                if each.certificate is None
            ]
        except (OSError, ValueError) as error:  # Dask connects when it is first asked
            raise BadInput(
                f"engine.address: found {config.address}, expected a {config.kind} cluster's: {error}"
            ) from None
        for future in asked:
            future.wait()


def import_participant(folder: Path, membership: Membership) -> None:
    """Import what is new in a participant's files into the store in its folder, where its cadence says so.

    Prefect keeps and shows what it raises: no more than the participant itself would tell.
    """
    from tasks.room import Room

    try:
        Room(folder, membership).bring()
    except Exception as error:
        raise from_message(to_message(error, (BadData,))) from None


def _task() -> Any:
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    return task(name="import events", task_run_name="import {membership.name}", cache_policy=NO_CACHE)(
        import_participant
    )


@contextmanager
def _engine(config: EngineConfig) -> Iterator[Any]:
    """The task runner; raises `BadInput` where its extra is not installed."""
    try:
        runner = _runner(config)
    except ImportError:
        raise BadInput(
            f"engine.kind: found {config.kind}, whose package is not installed; expected "
            f"`pip install prefect-{config.kind}` in Chorus's environment"
        ) from None
    with runner as engine:
        yield engine


def _runner(config: EngineConfig) -> Any:
    if config.kind == "processes":
        from prefect.task_runners import ProcessPoolTaskRunner

        return ProcessPoolTaskRunner(max_workers=config.workers)
    if config.kind == "dask":
        from prefect_dask import DaskTaskRunner

        local = {"n_workers": config.workers, "threads_per_worker": 1, "processes": True}
        return DaskTaskRunner(address=config.address, cluster_kwargs=None if config.address else local)
    from prefect_ray import RayTaskRunner

    started = {} if config.address else {"num_cpus": config.workers}
    return RayTaskRunner(address=config.address, init_kwargs=started)
