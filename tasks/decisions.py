"""How often to train, observed and decided: what MLflow knows of past trainings, and a record of decisions.

Decisions are numbered files in the state folder, each written beside and renamed, so their history has
no gap and no double; MLflow and Prefect get copies, MLflow also of those that it missed while it was down.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from federation.durations import DAY
from federation.files import read_json, write_json
from federation.frozen import Frozen
from federation.observation import Observation
from mlruns_config.tracking import NoTracking, Tracking
from tasks.timetable import INTERVAL_TAG

NEWEST = 1_000


class Decided(Frozen):
    """One decision: what was seen, by which policy, from which schedule to which, and why."""

    number: int
    at: datetime
    policy: str
    old: str
    new: str
    interval_seconds: float | None
    reason: str
    observed: int
    newest: Observation | None
    state: dict[str, float] = Field(default_factory=dict)
    flow_run_id: str | None = None


def decisions(home: Path) -> list[Decided]:
    """All decisions so far, oldest first."""
    return [read_json(path, Decided.model_validate_json) for path in sorted(_folder(home).glob("*.json"))]


def record(home: Path, **told: Any) -> Decided:
    """The next decision, put on record in one step."""
    known = sorted(_folder(home).glob("*.json"))
    decided = Decided(number=int(known[-1].stem) + 1 if known else 1, at=datetime.now(UTC), **told)
    write_json(_folder(home) / f"{decided.number:06}.json", json.loads(decided.model_dump_json()))
    return decided


@task(name="observe", cache_policy=NO_CACHE)
def observe(
    tracking: Tracking, consortium: str, metric: str, interval_seconds: float
) -> tuple[list[Observation], str | None]:
    """What the newest trainings and evaluations tell, oldest first; or why nothing is known.

    A run without the tag of its interval counts as trained at `interval_seconds`; what it did not log is
    not known.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = tracking.client.search_runs(
            [tracking.experiment_id],
            f"params.consortium = '{consortium}' and attributes.status = 'FINISHED'",
            max_results=NEWEST,
            order_by=["attributes.end_time DESC"],
        )
    except (NoTracking, MlflowException, OSError) as error:
        why = error if isinstance(error, NoTracking) else type(error).__name__
        return [], f"MLflow does not answer ({why})."
    return [_observation(run, metric, interval_seconds) for run in reversed(found)], None


@task(name="report decision", cache_policy=NO_CACHE)
def report(tracking: Tracking, consortium: str, home: Path, decided: Decided) -> str | None:
    """Tell Prefect of the decision, and MLflow of all that it does not know yet; or say that it was not."""
    from mlflow.exceptions import MlflowException

    create_markdown_artifact(
        key=f"frequency-{consortium}",
        markdown=f"**{decided.new}** (before: {decided.old})\n\n{decided.reason}\n\n"
        f"Policy {decided.policy}, {decided.observed} observations; decision {decided.number}.\n\n"
        f"```json\n{decided.model_dump_json(indent=1)}\n```",
        description=f"{consortium}: how often to train",
    )
    try:
        _tell_mlflow(tracking, consortium, home)
    except (NoTracking, MlflowException, OSError) as error:
        return f"MLflow was not told ({type(error).__name__}); it will be with the next decision."
    return None


def _tell_mlflow(tracking: Tracking, consortium: str, home: Path) -> None:
    run = f"frequency-{consortium}"
    run_id = tracking.start_or_continue(run, f"{consortium} frequency", {}, {"chorus.kind": "frequency"})
    last = tracking.client.get_run(run_id).data.metrics.get("decision", 0)
    for each in decisions(home):
        if each.number > last:
            tracking.log_json(run_id, json.loads(each.model_dump_json()), f"decisions/{each.number:06}.json")
            tracking.log_metrics(run_id, each.number, _metrics(each))
    tracking.finish(run_id, "FINISHED")


def _metrics(decided: Decided) -> dict[str, float]:
    seen = decided.newest.model_dump(exclude={"at", "trained", "promoted"}) if decided.newest else {}
    known = {f"observed/{name}": float(value) for name, value in seen.items() if value is not None}
    if decided.interval_seconds is not None:
        known["interval_days"] = decided.interval_seconds / DAY
    return {
        **known,
        **{f"state/{name}": value for name, value in decided.state.items()},
        "decision": decided.number,
    }


def _observation(run: Any, metric: str, interval: float) -> Observation:
    known, promoted = run.data.metrics, run.data.tags.get("chorus.promoted") != "false"
    value, gain = known.get(metric), known.get("gain")
    if not promoted:  # the window's champion is the one that it met
        value = None if value is None or gain is None else value - gain
    return Observation(
        at=run.info.end_time / 1e3,
        trained=run.data.tags.get("chorus.kind") != "evaluation",
        promoted=promoted,
        interval_seconds=float(run.data.tags.get(INTERVAL_TAG, interval)),
        metric=value,
        metric_error=known.get(f"{metric}_error"),
        gain=gain,
        gain_error=known.get("gain_error"),
        drift=known.get("drift"),
        unseen=known.get("unseen"),
        features=known.get("largest_feature_drift"),
        seconds=known.get("seconds", 0.0),
        bytes=known.get("bytes_up", 0.0) + known.get("bytes_down", 0.0),
        epsilon=known.get("epsilon", 0.0),
    )


def _folder(home: Path) -> Path:
    return home / "coordinator" / "schedule" / "decisions"
