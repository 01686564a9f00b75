"""Opening a run: its folder, its participants' processes, its place in MLflow."""

import gc
import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feature_store.content import digest
from federation.errors import BadInput, NothingNew
from federation.frozen import Frozen
from federation.gate import GateConfig
from federation.policy import RoundPolicy
from mlruns_config.config import TrackingConfig
from mlruns_config.tracking import Tracking
from tasks.doors import open_doors
from tasks.locks import me
from tasks.membership import Membership, each_setting
from tasks.run import Run
from tasks.runs import RunFolder, runs_folder
from tasks.timetable import interval_tag


class Settings(Frozen):
    """What the coordinator needs to know of the consortium."""

    name: str
    decides: str
    rounds: RoundPolicy
    gate: GateConfig = GateConfig()
    tracking: TrackingConfig
    catalogue: Path
    content: Path | None = None
    seed: int
    agreed: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """A short hash of what decides the model."""
        return hashlib.sha256(self.decides.encode()).hexdigest()[:12]


@contextmanager
def open_run(
    home: Path, memberships: Sequence[Membership], run: str, settings: Settings, redo: str | None = None
) -> Iterator[Run]:
    """The run, ready to be worked on; its status is noted when the block ends, however it ends."""
    folder = RunFolder(runs_folder(home) / run)
    tracking = Tracking(settings.tracking, home)
    created_at = _created_at(folder, settings)
    folder.note(
        run=run,
        status="running",
        process=me(),
        fingerprint=settings.fingerprint,
        split=memberships[0].split.kind,
        windows=len(memberships[0].model.windows),
        created_at=created_at,
        flow_run_id=_flow_run_id(),
        mlflow_run_id=_mlflow_run(tracking, run, memberships, settings, interval_tag(home)),
    )
    _tell(tracking, folder)
    logging.getLogger("prefect.task_runs").addFilter(_tells_more)
    gc.freeze()  # what is imported stays: else each full collection walks all of it
    with _noted(folder, tracking), open_doors(home, memberships) as doors:
        tracking.client.log_text(folder.facts["mlflow_run_id"], settings.decides, "configuration.json")
        yield Run(
            folder=folder,
            doors=doors,
            policy=settings.rounds,
            gate=settings.gate,
            fingerprint=settings.fingerprint,
            seed=settings.seed,
            redo=redo,
            tracking=tracking,
            catalogue=settings.catalogue,
            content=settings.content,
            agreed=settings.agreed,
            consortium=settings.name,
            model=memberships[0].model,
            split=memberships[0].split,
            grows=memberships[0].catalogue_grows,
            created_at=created_at,
            began_at=time.monotonic(),
        )


def _created_at(folder: RunFolder, settings: Settings) -> str:
    """When the run began, now if it is new; `BadInput` where configuration or content were others then."""
    known = folder.facts if (folder.path / "run.json").exists() else {}
    found = settings.fingerprint
    if known.get("fingerprint", found) != found:
        raise BadInput(
            f"run '{folder.run}': participants, cleaning, split, model, explore or seed have changed, or the "
            f"version of chorus has (found configuration {found}, expected {known['fingerprint']}); undo it, "
            "or start a new run"
        )
    content = digest(settings.content)
    if known.get("content", content) != content:
        raise BadInput(
            f"{settings.content}: found other content than when run '{folder.run}' began; expected the same, "
            "or a new run"
        )
    return str(known.get("created_at", datetime.now(UTC).isoformat(timespec="seconds")))


def _tells_more(line: logging.LogRecord) -> bool:
    """Whether a task run's line tells more than that it has completed, which its state says."""
    return not line.getMessage().startswith("Finished in state Completed")


def _tell(tracking: Tracking, folder: RunFolder) -> None:
    """In Prefect's page, where MLflow has the run."""
    from tasks.artifacts import link_to_mlflow  # Prefect reads its settings on import

    if _flow_run_id() is not None:
        link_to_mlflow(tracking, folder.facts["mlflow_run_id"], folder.run)


@contextmanager
def _noted(folder: RunFolder, tracking: Tracking) -> Iterator[None]:
    run_id = folder.facts["mlflow_run_id"]
    try:
        yield
        tracking.finish(run_id, "FINISHED")  # first: what is finished here is not told again
    except NothingNew as error:
        folder.note(status="skipped", reason=str(error))
        tracking.tag(run_id, {"chorus.skipped": str(error)})
        tracking.finish(run_id, "KILLED")
        raise
    except BaseException as error:
        by_hand = isinstance(error, KeyboardInterrupt)
        folder.note(status="failed", reason="interrupted" if by_hand else f"{type(error).__name__}: {error}")
        with suppress(Exception):  # what failed the run is told, not that MLflow cannot hear of it
            tracking.finish(run_id, "FAILED")
        raise
    folder.note(status="finished", reason=None)


def _mlflow_run(
    tracking: Tracking,
    run: str,
    memberships: Sequence[Membership],
    settings: Settings,
    interval: dict[str, str],
) -> str:
    """The id of the run at MLflow, begun there or gone on with."""
    common = {"cleaning", "split", "model", "explore", "rounds"}
    agreed = memberships[0].model_dump(mode="json", include=common)
    params = {
        "consortium": settings.name,
        "participants": len(memberships),
        "seed": settings.seed,
        **dict(each_setting({**agreed, "gate": settings.gate.model_dump()})),
    }
    tags = {"chorus.fingerprint": settings.fingerprint, **interval, **_prefect_tags()}
    return tracking.start_or_continue(run, f"{settings.name} {run}", params, tags)


def _prefect_tags() -> dict[str, str]:
    """Which flow run this is, and a link to it in the description that MLflow's page shows."""
    from prefect.runtime import flow_run

    if not flow_run.id:
        return {"prefect.flow_run_id": ""}
    link = f"[{flow_run.name} at Prefect]({flow_run.ui_url}); if that server has ended, `chorus ui` shows it"
    return {"prefect.flow_run_id": str(flow_run.id), "mlflow.note.content": link}


def _flow_run_id() -> str | None:
    from prefect.runtime import flow_run

    return str(flow_run.id) if flow_run.id else None
