"""Growing the ranker, the coordinator's side: federated rounds of some trees each, checkpointed."""

import time
from collections.abc import Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from federation.errors import BadInput, TooFew, reasons
from recommenders.trees import any_split
from tasks.run import Run
from tasks.sums import common, summary


@task(name="grow trees", task_run_name="grow {trees} trees, round {number}", cache_policy=NO_CACHE)
def grow_trees(number: int, trees: int, cohort: Sequence[str], lost: Mapping[str, str], run: Run) -> None:
    """`trees` more trees of the ranker, checkpointed, then told; all of the cohort hold the same ones.

    Whoever was `lost` in an earlier step is not asked again: the others would be summed among another cohort.
    Raises what `_require_teachers` does, and `BadInput` where no tree has a split.
    """
    began, known = time.monotonic(), run.folder.steps(number, "grown")
    cohort = known[-1]["cohort"] if known else cohort
    _require_teachers(number, cohort, lost, run)
    state = known[-1]["state"] if known else None
    plan, part = run.plan(number, cohort), run.folder.part(number)
    reply = run.sum(plan, "grow", keep=False, trees=trees, part=part, state=state)
    grown = common(reply)
    _require_split(grown["state"]["trees"], run)
    run.folder.add_step(number, "grown", {**summary(reply, began), **grown, "trees": trees})
    _report(number, run)


def _require_teachers(number: int, cohort: Sequence[str], lost: Mapping[str, str], run: Run) -> None:
    """Where fewer have rows to learn from than may be summed, raise `TooFew` if a resume may find those
    who were lost, `BadInput` if it would only repeat."""
    if len(cohort) >= run.policy.minimum:
        return
    found = (
        f"round {number}: needs {run.policy.minimum} participants with rows that teach the ranker, found "
        f"{len(cohort)} ({', '.join(cohort) or 'nobody'})"
    )
    if lost:
        raise TooFew(f"{found}; missing: {reasons(lost)}")
    raise BadInput(
        f"{found}; at the rest nobody came back for a candidate in the windows before validation, as far as "
        "was known at their ends: bring more events, or set model.kind: item_to_item"
    )


def _require_split(trees: Sequence[str], run: Run) -> None:
    """Without a split all candidates have one score, and their order is that of the catalogue."""
    if not any_split(trees):
        floor = run.model.two_stage.boosting.min_data_in_leaf
        raise BadInput(
            f"model.two_stage.boosting.min_data_in_leaf: found {floor}, with which no tree has a "
            "split; expected at most half of the rows that teach the ranker: bring more events, or set "
            "model.kind: item_to_item"
        )


def _report(number: int, run: Run) -> None:
    """Tell the figures of the newest trees, at MLflow too, where the step is the number of trees."""
    last = run.folder.steps(number, "grown")[-1]
    trees, overall = len(last["state"]["trees"]), last.get("overall", {})
    figures = {
        "clipped": last["state"]["clipped"],
        "seconds": last["seconds"],
        "bytes_up": sum(last["bytes_up"].values()),
        "bytes_down": sum(last["bytes_down"].values()),
    }
    part = "validation" if number == 0 else "refit"
    named = {f"ranker/{part}/{name}": value for name, value in {**figures, **overall}.items()}
    run.tracking.log_metrics(run.folder.facts["mlflow_run_id"], trees, named)
    ndcg = overall.get(run.model.metric)
    told = "" if ndcg is None else f", NDCG {ndcg:.4f} on validation"
    run.say(f"round {number}: {trees} trees{told}")
