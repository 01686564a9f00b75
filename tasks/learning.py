"""Training the transformer, the coordinator's side: federated rounds, each checkpointed."""

import time
from collections.abc import Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from federation.errors import TooFew, reasons
from tasks.run import Run
from tasks.sums import common, summary


@task(name="learn together", task_run_name="learn together, round {number}", cache_policy=NO_CACHE)
def learn_together(number: int, cohort: Sequence[str], lost: Mapping[str, str], run: Run) -> None:
    """A federated round, checkpointed, then told; all of the cohort hold the same network.

    Whoever was `lost` in an earlier one is not asked again: the others would be summed among another cohort.
    Raises `TooFew` where those who are left are fewer than may be summed.
    """
    began, known = time.monotonic(), run.folder.steps(number, "learned")
    cohort = known[-1]["cohort"] if known else cohort
    if len(cohort) < run.policy.minimum:
        raise TooFew(
            f"round {number}: needs {run.policy.minimum} participants to train, found {len(cohort)}; "
            f"missing: {reasons(lost)}"
        )
    reply = run.sum(run.plan(number, cohort), "learn", step=len(known), cuts=run.folder.facts["cuts"])
    run.folder.add_step(number, "learned", {**summary(reply, began), **common(reply)})
    _report(number, run)


def _report(number: int, run: Run) -> None:
    """Tell the figures of the newest federated round, at MLflow too."""
    steps = run.folder.steps(number, "learned")
    last, rounds = steps[-1], len(steps)
    overall = last.get("overall", {})
    sent = {way: sum(last[way].values()) for way in ("bytes_up", "bytes_down")}
    part = "validation" if number == 0 else "refit"
    figures = {"seconds": last["seconds"], **sent, **overall}
    named = {f"sequence/{part}/{name}": value for name, value in figures.items()}
    run.tracking.log_metrics(run.folder.facts["mlflow_run_id"], rounds, named)
    ndcg = overall.get(run.model.metric)
    told = "" if ndcg is None else f", NDCG {ndcg:.4f} on validation"
    run.say(f"round {number}: federated round {rounds}{told}")
