"""Sums are opened again only where so many have something new that the difference tells nobody's own."""

from types import SimpleNamespace

import pytest

from federation.errors import NothingNew
from federation.plan import RoundPlan
from federation.policy import RoundPolicy
from federation.summed import Summed
from tasks.news import require_new_window, require_news
from tasks.runs import RunFolder, runs_folder

OLD = dict.fromkeys("abc", "1")
STATE = {"fingerprint": "f", "created_at": "2026-03-01"}


@pytest.fixture
def champion(tmp_path):
    folder = RunFolder(runs_folder(tmp_path) / "first")
    folder.note(run="first", versions=OLD, status="finished", **STATE)
    return folder


def run_on(tmp_path, versions, fingerprint="f", content=None):
    folder = RunFolder(runs_folder(tmp_path) / "now")
    folder.note(run="now", status="running", **STATE)
    told = {"fingerprint": fingerprint, "content_digest": content}
    return SimpleNamespace(folder=folder, versions=versions, policy=RoundPolicy(), **told)


@pytest.mark.parametrize("new", [{}, {"a": "2"}, dict.fromkeys("abc", "2")])
def test_a_failed_run_counts_where_it_opened_a_sum(tmp_path, new):
    failed = RunFolder(runs_folder(tmp_path) / "failed")
    failed.note(run="failed", versions=OLD, status="failed", **STATE)
    run = run_on(tmp_path, OLD | new)
    require_news(run)
    failed.begin(0)
    failed.add_step(0, "summed", {"cohort": ["a", "b", "c"]})
    if len(new) == 1:
        with pytest.raises(NothingNew, match="only a of the 3 needed has new data since run failed"):
            require_news(run)
    else:
        require_news(run)


def test_a_run_that_was_cut_off_amid_its_first_sums_counts(tmp_path):
    failed = RunFolder(runs_folder(tmp_path) / "failed")
    failed.note(run="failed", versions=OLD, status="failed", **STATE)
    assert failed.cohort == set()
    Summed(failed.path.parent).note(
        RoundPlan(run="failed", number=0, cohort=tuple("abc")), "gather", tuple("abc")
    )
    assert failed.cohort == set("abc")
    with pytest.raises(NothingNew, match="only a of the 3 needed has new data since run failed"):
        require_news(run_on(tmp_path, {**OLD, "a": "2"}))


@pytest.mark.parametrize("new", [{}, dict.fromkeys("ab", "2"), dict.fromkeys("abc", "2")])
def test_the_champion_is_evaluated_where_enough_have_something_new(champion, new):
    if len(new) == 3:
        return require_new_window(champion, OLD | new, 3)
    why = (
        "only a, b of the 3 needed have new data since run first"
        if new
        else "the data are those of run first"
    )
    with pytest.raises(NothingNew, match=why):
        require_new_window(champion, OLD | new, 3)


def test_an_evaluation_counts_for_the_next_and_for_a_training(champion, tmp_path):
    champion.evaluate_on(dict.fromkeys("abc", "2"))
    later = {**dict.fromkeys("abc", "2"), "b": "3"}
    why = "only b of the 3 needed has new data since an evaluation of the model of run first"
    with pytest.raises(NothingNew, match=why):
        require_new_window(champion, later, 3)
    with pytest.raises(NothingNew, match=why):
        require_news(run_on(tmp_path, later))
    require_new_window(champion, dict.fromkeys("abc", "3"), 3)
    require_news(run_on(tmp_path, dict.fromkeys("abc", "2")))


def test_a_run_of_another_configuration_counts_where_few_have_something_new(champion, tmp_path):
    require_news(run_on(tmp_path, OLD, "another"))
    with pytest.raises(NothingNew, match="only a of the 3 needed has new data since run first"):
        require_news(run_on(tmp_path, {**OLD, "a": "2"}, "another"))


def test_other_content_is_something_new(champion, tmp_path):
    with pytest.raises(NothingNew, match="data and configuration are those of run first"):
        require_news(run_on(tmp_path, OLD))
    require_news(run_on(tmp_path, OLD, content="of now"))
    champion.note(content="of now")
    with pytest.raises(NothingNew, match="data and configuration are those of run first"):
        require_news(run_on(tmp_path, OLD, content="of now"))


def test_a_training_that_was_not_promoted_counts_for_an_evaluation(champion, tmp_path):
    second = RunFolder(runs_folder(tmp_path) / "second")
    second.note(run="second", versions=dict.fromkeys("abc", "2"), status="finished", **STATE)
    with pytest.raises(NothingNew, match="only b of the 3 needed has new data since run second"):
        require_new_window(champion, {**dict.fromkeys("abc", "2"), "b": "3"}, 3)
    require_new_window(champion, dict.fromkeys("abc", "2"), 3)


def test_an_evaluation_on_the_same_data_is_noted_once(champion):
    for versions in (OLD, {**OLD, "a": "2"}, OLD):
        champion.evaluate_on(versions)
    assert champion.evaluated == [OLD, {**OLD, "a": "2"}]


def test_nothing_is_said_of_another_cohort(champion):
    require_new_window(champion, dict.fromkeys("ab", "1"), 2)
