"""What Prefect's page shows of a run: its progress, a table of its participants, and where MLflow has it."""

from collections.abc import Mapping
from typing import Any

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
)

from mlruns_config.tracking import Tracking
from tasks.run import Run

Record = Mapping[str, Any]
LAST = "test"
"""The part of the last of two rounds."""


def show_round(record: Record, run: Run) -> None:
    """How far the run is, and a table of its participants; why one is missing."""
    said = run.folder.facts.get("prepared", {})
    rows = [_row(name, told, record, said.get(name, {})) for name, told in record["participants"].items()]
    rows += [{"participant": name, "state": why} for name, why in run.folder.lost(record).items()]
    done = 100.0 if record["part"] == LAST else 50.0
    create_progress_artifact(done, key="progress", description=f"Run {run.name}: rounds that are done")
    create_table_artifact(
        table=rows,
        key="participants",
        description=f"Run {run.name}, round {record['number']} ({record['part']}), after "
        f"{record['seconds']:.0f} s. MLflow run {run.folder.facts['mlflow_run_id']}.",
    )


def link_to_mlflow(tracking: Tracking, run_id: str, run: str) -> None:
    """Where MLflow has the run: a link to a tracking server, or how its pages are shown."""
    if tracking.uri.startswith(("http://", "https://")):
        link = f"{tracking.uri.rstrip('/')}/#/experiments/{tracking.experiment_id}/runs/{run_id}"
        create_link_artifact(link=link, link_text=f"{run} at MLflow", key="mlflow")
        return
    create_markdown_artifact(
        f"MLflow run `{run_id}` in experiment `{tracking.config.experiment}`; `chorus ui` shows its pages.",
        key="mlflow",
        description=f"{run} at MLflow",
    )


def _row(name: str, told: Record, record: Record, said: Record) -> dict[str, Any]:
    """Empty where the participant does not disclose."""
    return {
        "participant": name,
        "rows": said.get("rows", ""),
        "NDCG alone": _ndcg(told.get("alone")),
        "NDCG consortium": _ndcg(told.get("consortium")),
        "NDCG champion": _ndcg(told.get("champion")),
        "seconds of its own": f"{told.get('seconds', 0):.1f}",
        "bytes up": record["bytes_up"].get(name, 0),
        "bytes down": record["bytes_down"].get(name, 0),
        "state": "in the sum",
    }


def _ndcg(metrics: Record | None) -> str:
    named = [value for name, value in (metrics or {}).items() if name.startswith("ndcg_at_")]
    return f"{named[0]:.4f}" if named else ""
