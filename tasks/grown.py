"""What a run has grown so far, as its checkpoints tell, and whether that is enough."""

from typing import Any

from federation.stopping import Decision
from tasks.ranking import best_trees, next_trees, stopping
from tasks.run import Run


def trees_wanted(number: int, run: Run) -> int:
    """How many trees the next step of the round grows; 0 when it is enough.

    Round 0 stops by the consortium's NDCG on the validation parts; round 1 grows as many as were best then.
    """
    grown, settings = run.folder.steps(number, "grown"), run.model.two_stage
    if number == 0:
        return 0 if _decision(run).stop else next_trees(len(grown), settings)
    missing = best_trees(_decision(run), settings) - sum(each["trees"] for each in grown)
    return min(missing, settings.trees_per_round)


def ranker(number: int, run: Run) -> dict[str, Any] | None:
    """The ranker that the round's figures come from; none where the model has none."""
    if run.model.kind != "two_stage":
        return None
    state: dict[str, Any] = run.folder.steps(number, "grown")[-1]["state"]
    return {**state, "trees": state["trees"][: best_trees(_decision(run), run.model.two_stage)]}


def history(run: Run) -> dict[int, float]:
    """The consortium's NDCG on the validation parts in round 0, by the number of trees so far."""
    metric, steps = run.model.metric, run.folder.steps(0, "grown")
    return {len(each["state"]["trees"]): each["overall"].get(metric, float("nan")) for each in steps}


def _decision(run: Run) -> Decision:
    return stopping(list(history(run).values()), run.model.two_stage)
