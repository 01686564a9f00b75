"""The coordinator's side of growing: who is asked in a later step, and whose sums were opened."""

from types import SimpleNamespace

from federation.plan import RoundPlan
from federation.rounds import Together
from tasks.champion import _cohort
from tasks.growing import grow_trees
from tasks.runs import RunFolder


def run_in(folder, answers):
    """A run whose participants answer with `answers`, by name, in the order in which steps are grown."""
    asked = []

    def summed(plan, job, **arguments):
        asked.append(plan.cohort)
        told = answers.pop(0)
        there = RoundPlan(run="r", number=0, cohort=tuple(told))
        lost = {name: "ended" for name in plan.cohort if name not in told}
        return Together(there, told, lost, dict.fromkeys(told, 8), dict.fromkeys(told, 8), 1, ())

    folder = RunFolder(folder)
    folder.note(cuts=["2020-01-01", "2021-01-01"], mlflow_run_id="m")
    folder.begin(0)
    return asked, SimpleNamespace(
        folder=folder, sum=summed, model=SimpleNamespace(top=10), say=lambda text: None,
        plan=lambda number, cohort: RoundPlan(run="r", number=number, cohort=tuple(cohort)),
        tracking=SimpleNamespace(log_metrics=lambda *_: None),
    )  # fmt: skip


def told(names):
    """NaN from a process of its own is another object each time."""
    return {
        n: {"state": {"trees": ["t"], "clipped": 0}, "overall": {"ndcg_at_10": float("nan")}} for n in names
    }


def test_who_was_lost_in_a_step_is_not_asked_in_the_next(tmp_path):
    asked, run = run_in(tmp_path / "r", [told("abc"), told("abc")])
    for _ in range(2):
        grow_trees.fn(0, 1, ("a", "b", "c", "d"), run)
    assert asked == [("a", "b", "c", "d"), ("a", "b", "c")]


def test_the_cohort_of_an_unfinished_run_is_that_of_its_opened_sums(tmp_path):
    _, run = run_in(tmp_path / "r", [])
    assert _cohort(run.folder) == set()
    run.folder.add_step(0, "summed", {"cohort": ["a", "b", "c", "d"]})
    run.folder.add_step(0, "grown", {"cohort": ["a", "b", "c"]})
    assert _cohort(run.folder) == {"a", "b", "c", "d"}
