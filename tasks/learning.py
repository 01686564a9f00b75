"""Training the transformer, the coordinator's side: federated rounds, each checkpointed."""

import time
from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import learned
from tasks.run import Run
from tasks.sums import common, summary


@task(name="learn together", task_run_name="learn together, round {number}", cache_policy=NO_CACHE)
def learn_together(number: int, cohort: Sequence[str], run: Run) -> None:
    """A federated round, checkpointed, then told; all of the cohort hold the same network."""
    began, known = time.monotonic(), run.folder.steps(number, "learned")
    plan = run.plan(number, known[-1]["cohort"] if known else cohort)
    told = {"step": len(known), "begins": learned.after(len(known), number, run).digest()}
    reply = run.sum(plan, "learn", cuts=run.folder.facts["cuts"], **told)
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
