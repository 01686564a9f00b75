"""The coordinator's side of growing: who is asked in a later step, and whose sums were opened."""

from types import SimpleNamespace

import pytest

from feature_store.splits import TemporalSplit
from federation.errors import BadInput, Refused, TooFew
from federation.plan import RoundPlan
from federation.policy import RoundPolicy
from federation.rounds import Together
from mlruns_config.figures import growth_figure
from recommenders.trees import STUMP
from recommenders.two_stage import TwoStage
from tasks import personal, ranking
from tasks.growing import grow_trees
from tasks.grown import history
from tasks.model import ModelConfig
from tasks.ranking import best_trees, next_trees, stopping
from tasks.runs import RunFolder
from tasks.sums import agree_cuts, evaluate


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
        folder=folder, sum=summed, model=ModelConfig(), say=lambda text: None, policy=RoundPolicy(),
        plan=lambda number, cohort: RoundPlan(run="r", number=number, cohort=tuple(cohort)),
        tracking=SimpleNamespace(log_metrics=lambda *_: None),
    )  # fmt: skip


def told(names, tree="split_feature=0"):
    """NaN from a process of its own is another object each time."""
    return {
        n: {"state": {"trees": [tree], "clipped": 0}, "overall": {"ndcg_at_10": float("nan")}} for n in names
    }


def test_who_was_lost_in_a_step_is_not_asked_in_the_next(tmp_path):
    asked, run = run_in(tmp_path / "r", [told("abc"), told("abc")])
    for _ in range(2):
        grow_trees.fn(0, 1, ("a", "b", "c", "d"), {}, run)
    assert asked == [("a", "b", "c", "d"), ("a", "b", "c")]


@pytest.mark.parametrize(("teach", "told"), [((), r"found 0 \(nobody\)"), (("a", "b"), r"found 2 \(a, b\)")])
def test_too_few_whose_rows_teach_are_told_as_such(teach, told, tmp_path):
    asked, run = run_in(tmp_path / "r", [])
    with pytest.raises(
        BadInput, match=rf"needs 3 participants with rows that teach the ranker, {told}.* as far as was known"
    ):
        grow_trees.fn(0, 1, teach, {}, run)
    # Whom a resume asks again may teach.
    with pytest.raises(TooFew, match=rf"{told}; missing: d: its process ended"):
        grow_trees.fn(0, 1, teach, {"d": "its process ended"}, run)
    assert asked == []


def test_trees_without_a_split_are_told_with_the_floor(tmp_path):
    _, run = run_in(tmp_path / "r", [told("abc", STUMP)])
    run.model = ModelConfig()
    with pytest.raises(BadInput, match="min_data_in_leaf: found 200, with which no tree has a split"):
        grow_trees.fn(0, 1, ("a", "b", "c"), {}, run)
    assert run.folder.steps(0, "grown") == []


STEPS = {
    "cuts": lambda run: agree_cuts.fn(("a", "b", "c"), run),
    "trees": lambda run: grow_trees.fn(0, 1, ("a", "b", "c"), {}, run),
    "figures": lambda run: evaluate.fn(0, ("a", "b", "c"), run),
}


@pytest.mark.parametrize("step", STEPS)
def test_one_that_tells_other_results_of_the_sums_is_not_believed(step, tmp_path):
    """Though its name comes first: it could call its own model the better one."""
    answers = told("abc")
    for name, each in answers.items():
        each |= {"cuts": ["2020-01-01"], "judged": {"gain": 9.0 if name == "a" else -0.1}}
    _, run = run_in(tmp_path / "r", [answers])
    run.folder.path.joinpath("run.json").unlink()
    run.folder.note(mlflow_run_id="m", **({} if step == "cuts" else {"cuts": ["2020-01-01"]}))
    run.split, run.model = TemporalSplit(), ModelConfig(kind="item_to_item")
    with pytest.raises(Refused, match="r/0/0: a told other results of the same sums than the rest"):
        STEPS[step](run)
    assert run.folder.steps(0, "grown") == []


def test_the_cohort_of_an_unfinished_run_is_that_of_its_opened_sums(tmp_path):
    _, run = run_in(tmp_path / "r", [])
    assert run.folder.cohort == set()
    run.folder.add_step(0, "summed", {"cohort": ["a", "b", "c", "d"]})
    run.folder.add_step(0, "grown", {"cohort": ["a", "b", "c"]})
    assert run.folder.cohort == {"a", "b", "c", "d"}


@pytest.mark.parametrize("most", [5, 20, 50])
def test_never_more_trees_than_configured(most):
    settings = TwoStage.model_validate({"trees_per_round": 20, "boosting": {"trees": most}})
    history, grown = [], 0
    while not (decision := stopping(history, settings)).stop:
        grown += next_trees(len(history), settings)
        history.append(float(grown))
    assert grown == best_trees(decision, settings) == most


def test_the_curve_is_drawn_at_the_trees_that_there_were(tmp_path):
    _, run = run_in(tmp_path / "r", [])
    for trees in (20, 40, 50):
        run.folder.add_step(
            0, "grown", {"state": {"trees": ["t"] * trees}, "overall": {"ndcg_at_10": trees / 100}}
        )
    (line,) = growth_figure(history(run), "ndcg_at_10", "trees").axes[0].lines
    assert line.get_xydata().tolist() == [[20, 0.2], [40, 0.4], [50, 0.5]]


@pytest.mark.parametrize(
    ("kind", "cuts", "told"),
    [
        ("two_stage", ["2020-01-01", "2021-01-01"], "found cuts .* expected room before .* for a window"),
        ("item_to_item", ["2020-01-01"], "found cuts 2020-01-01, expected one for validation and a later"),
        ("two_stage", [], "found cuts none, expected one for validation"),
    ],
)
def test_a_split_without_room_for_its_parts_is_bad_input(kind, cuts, told, tmp_path):
    _, run = run_in(tmp_path / "r", [])
    run.folder.path.joinpath("run.json").unlink()
    run.folder.note(mlflow_run_id="m")
    run.model, run.split = ModelConfig(kind=kind), TemporalSplit()
    reply = Together(run.plan(0, "abc"), {"a": {"cuts": cuts}}, {}, {}, {}, 1, ())
    run.sum = lambda *_: reply
    with pytest.raises(BadInput, match=told):
        agree_cuts.fn(("a", "b", "c"), run)


def test_an_own_ranker_without_a_split_lists_what_is_popular(monkeypatch):
    """Else the candidates in the order of the catalogue would pass for what the participant has alone."""
    monkeypatch.setattr(ranking, "grow_alone", lambda *_: SimpleNamespace(trees=(STUMP,)))
    this = SimpleNamespace(room=None, run="r", number=0, part=3)
    assert personal._Round.ranked_alone(this, "popular") == ("popular", {"trees": 0})
