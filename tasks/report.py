"""What a run tells: the checkpoint first, then MLflow, then Prefect's own pages."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from federation.errors import BadInput, ChorusError
from tasks.artifacts import show_round
from tasks.champion import settle
from tasks.grown import ranker
from tasks.learned import best
from tasks.publish import publish
from tasks.run import Run
from tasks.runs import STEPS

Disclosed = Mapping[str, Any]
ARMS = ("alone", "consortium", "champion", "popularity", "reachable")


def checkpoint(
    number: int,
    part: str,
    summed: dict[str, Any],
    worked: Sequence[Mapping[str, Disclosed]],
    figures: dict[str, Any],
    lost: Mapping[str, str],
    run: Run,
) -> None:
    """Keep the record of a round: from here on it is done, and will not be repeated.

    `worked` is what each disclosed of each step of its own work, the scores last.  Raises `BadInput` where
    another version of chorus kept that without its seconds.
    """
    if odd := sorted({name for step in worked for name, told in step.items() if "seconds" not in told}):
        raise BadInput(
            f"run {run.name}: found work of {', '.join(odd)} that another version of chorus kept, expected "
            "this one's; start a new run"
        )
    cohort, scored = figures["cohort"], worked[-1]
    trained = (step["trained"] for step in run.folder.steps(number, "learned"))
    seconds = _added(*({name: told["seconds"] for name, told in step.items()} for step in worked), *trained)
    steps = [*(step for kind in STEPS for step in run.folder.steps(number, kind)), figures]
    exposed = {name for step in steps for name in step["exposed"]}
    record = {
        "number": number,
        "part": part,
        "cohort": cohort,
        "scored": sorted(scored),
        "lost": {**lost, **{name: why for step in steps for name, why in step["lost"].items()}},
        "bytes_up": _added(*(step["bytes_up"] for step in steps)),
        "bytes_down": _added(*(step["bytes_down"] for step in steps)),
        "exposed": sorted(exposed | run.summed - set(cohort)),  # sums of one run overlap, too
        "seconds": time.monotonic() - run.began_at,
        "overall": figures["overall"],
        "looks_at": figures["looks_at"],
        "judged": figures["judged"],
        "participants": {name: {**scored[name], "seconds": seconds[name]} for name in cohort},
    }
    run.folder.finish(number, record)


@task(name="log round", task_run_name="log round {number}", cache_policy=NO_CACHE)
def log_round(number: int, run: Run) -> None:
    """Report a round that is checkpointed: MLflow metrics of this step, and a table at Prefect."""
    _tell(number, run)
    show_round(run.folder.rounds[number], run)
    run.say(f"round {number}: checkpointed and logged")


def tell_again(run: Run) -> None:
    """The checkpointed rounds to MLflow, the last to Prefect: a run may be killed before it has told them."""
    for number in range(len(run.folder.rounds)):
        _tell(number, run)
    for record in run.folder.rounds[-1:]:
        show_round(record, run)


@task(name="close run", cache_policy=NO_CACHE)
def close_run(prepared: Mapping[str, Disclosed], run: Run) -> dict[str, Any]:
    """The run's figures; its model registered and judged, its figures in MLflow, its local work forgotten."""
    last = run.folder.rounds[-1]
    figures: dict[str, Any] = {
        "run": run.name,
        "overall": last["overall"],
        "participants": {name: _told(prepared, last, name) for name in sorted(run.doors)},
        "lost": run.folder.lost(last),
        "exposed": sorted({name for record in run.folder.rounds for name in record["exposed"]}),
        "judged": last["judged"],
        "cuts": run.folder.facts["cuts"],
        "cohorts": run.cohorts,
        **_learned(run),
    }
    version = figures["model_version"] = publish(figures, run)
    figures["gate"] = settle(version, run)
    for name in last["cohort"]:
        with suppress(ChorusError):  # all is done; its work goes with housekeeping
            run.ask(name, "forget")
    seconds = time.monotonic() - run.began_at
    run.folder.note(cohort=last["cohort"], figures=figures, model_version=version, seconds=seconds)
    return figures


def _learned(run: Run) -> dict[str, int]:
    """Of how many trees the ranker is, or after how many federated rounds the transformer."""
    if (read := best(run)) is not None:
        return {"federated_rounds": read["rounds"]}
    grown = ranker(1, run)
    return {} if grown is None else {"trees": len(grown["trees"])}


def round_metrics(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The last round's figures under MLflow's names: overall, `participant/<name>/...`; all rounds' bytes.

    A policy takes the newest bytes and seconds for what the training took, so neither is of one round alone.
    """
    record = records[-1]
    sent = {way: _added(*(each[way] for each in records)) for way in ("bytes_up", "bytes_down")}
    metrics = {
        name if arm == "consortium" else f"{arm}/{name}": value
        for arm, values in record["overall"].items()
        for name, value in values.items()
    }
    for participant, told in record["participants"].items():
        for arm in ARMS:
            for name, value in (told.get(arm) or {}).items():
                prefix = f"participant/{participant}" + ("" if arm == "consortium" else f"/{arm}")
                metrics[f"{prefix}/{name}"] = value
        for way, each in sent.items():
            metrics[f"participant/{participant}/{way}"] = each.get(participant, 0)
    metrics |= record["judged"]
    metrics |= {way: sum(each.values()) for way, each in sent.items()}
    metrics |= {f"participant/{name}/exposed": 1.0 for name in record["exposed"]}
    metrics["degraded"] = float(bool(record["exposed"]))
    metrics["participants"] = len(record["cohort"])
    metrics["seconds"] = record["seconds"]
    return metrics


def _tell(number: int, run: Run) -> None:
    run_id = run.folder.facts["mlflow_run_id"]
    run.tracking.log_metrics(run_id, number, round_metrics(run.folder.rounds[: number + 1]))


def _told(prepared: Mapping[str, Disclosed], last: Mapping[str, Any], name: str) -> dict[str, Any]:
    said = prepared.get(name, {})
    figures = last["participants"].get(name, {})
    told = {each: said.get(each) for each in ("rows", "unlisted", "users")}
    return {
        **told,
        "data_version": said.get("version"),
        **{arm: figures.get(arm) for arm in ARMS},
        "chosen": figures.get("chosen"),
    }


def _added(*counts: Mapping[str, float]) -> dict[str, float]:
    names = {name for each in counts for name in each}
    return {name: sum(each[name] for each in counts if name in each) for name in sorted(names)}
