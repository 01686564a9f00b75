"""A run under way: as an argument of Prefect's tasks, and its sums after it was cut off."""

import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pytest
from prefect.utilities.annotations import quote
from prefect.utilities.engine import collect_task_run_inputs_sync

from feature_store.splits import LeaveLastOut
from federation.door import Door
from federation.errors import BadInput, Lost, Refused, TooFew
from federation.gate import GateConfig
from federation.policy import RoundPolicy
from federation.summed import Summed
from mlruns_config.config import TrackingConfig
from mlruns_config.tracking import Tracking
from tasks.model import ModelConfig
from tasks.publish import _regularisation
from tasks.run import Run
from tasks.runs import RunFolder, find_run, save
from tasks.sums import agree_catalogue

PROGRAM = str(Path(__file__).with_name("participant_program.py"))


class Untouched(dict):
    def items(self):
        raise AssertionError("somebody looks behind the doors")


@pytest.fixture
def run_behind(tmp_path):
    """The run `r` behind the doors that are given, or of participants by name; they end with the test."""
    opened = []

    def run(doors):
        if isinstance(doors, str):
            doors = {
                name: Door(
                    name,
                    [sys.executable, PROGRAM, name, "--memory", str(tmp_path / name)],
                    tmp_path / f"{name}.log",
                )
                for name in doors
            }
            opened.extend(doors.values())
        folder = RunFolder(tmp_path / "runs" / "r")
        folder.note(run="r")
        return Run(
            folder=folder,
            doors=doors,
            policy=RoundPolicy(),
            gate=GateConfig(),
            fingerprint="f",
            tracking=Tracking(TrackingConfig(), tmp_path),
            catalogue=tmp_path / "catalogue.txt",
            consortium="c",
            model=ModelConfig(),
            split=LeaveLastOut(),
            created_at="2026-01-01",
        )

    yield run
    for door in opened:
        door.close()


def test_prefect_does_not_look_behind_the_doors_of_a_quoted_run(run_behind):
    run = run_behind(Untouched())
    assert collect_task_run_inputs_sync(quote(run)) == set()
    with pytest.raises(AssertionError, match="behind the doors"):
        collect_task_run_inputs_sync(run)


@pytest.mark.parametrize(
    "name",
    ["0/../../other/round-0000/sum", "0/../../../participants/b/sum", "0//{}/sum", "x/sum", "/sum", "-1/sum"],
)
def test_a_participant_reads_no_file_but_the_opened_sums_of_its_run(run_behind, tmp_path, name):
    run = run_behind("a")
    run.folder.begin(0)
    for folder in ("runs/other/round-0000", "participants/b", "runs/r/round-0000.under-way"):
        save(tmp_path / folder / "sum.npy", np.array([7.0]))
    door, read = run.doors["a"], run.folder.opened
    assert door.ask("read_total", {"name": "0/sum"}, read=read)["total"] == [7.0]
    with pytest.raises(BadInput, match=r"no sum '.*' was opened"):
        door.ask("read_total", {"name": name.format(tmp_path / "participants" / "b")}, read=read)


def added(run, names, **trouble):
    return run.sum(run.plan(1, names), "sum_vector", keep=False, vector=[1.0, 2.0], rounds=3, **trouble)


def test_a_step_that_was_cut_off_is_resumed_among_those_whose_sums_were_opened(run_behind):
    with pytest.raises(Lost):
        added(run_behind("abc"), "abc", trouble="die", at=1)
    resumed = added(run_behind("abcd"), "abcd")
    assert resumed.cohort == ("a", "b", "c")
    assert resumed.results["a"]["total"] == [3.0, 6.0]
    assert resumed.lost == {"d": "was not in this sum when the run was cut off"}


def test_who_is_in_no_sum_of_the_run_reads_none(run_behind):
    class Asked:
        def ask(self, job, arguments, read, deadline_seconds):
            return read

    run = run_behind({"a": Asked(), "d": Asked()})
    assert run.ask("a", "score") is None
    Summed(run.folder.path.parent).note(run.plan(0, "abc"), "gather", tuple("abc"))
    assert (run.ask("a", "score"), run.ask("d", "score")) == (run.folder.opened, None)


def test_a_step_that_was_done_again_says_for_whom(run_behind, monkeypatch, tmp_path):
    said, run = [], run_behind("abc")
    monkeypatch.setattr(Run, "say", lambda _, text: said.append(text))
    told = added(run, "abc", trouble="die", at=1, once=str(tmp_path / "once"))
    assert (told.attempts, told.lost, set(told.returned) <= set("abc")) == (2, {}, True)
    assert said == [f"sum_vector: done again with the same participants, since {Lost(told.returned)}"]
    assert "its process ended" in said[0]


def test_a_step_that_opened_nothing_is_resumed_with_everybody(run_behind):
    with pytest.raises(TooFew):
        added(run_behind("abc"), "abc", trouble="nan")
    assert added(run_behind("abcd"), "abcd").cohort == ("a", "b", "c", "d")


def test_a_later_step_waits_for_all_whose_sums_were_opened_in_the_one_before(run_behind):
    run = run_behind("abcd")
    added(run, "abcd")

    def silent(*_, **__):
        raise Lost({"d": "silent"})

    run.doors["d"].ready = silent
    with pytest.raises(Lost, match="d: silent"):
        added(run, "abcd")
    with pytest.raises(Lost, match="d: is not there"):
        added(run_behind("abc"), "abc")
    assert added(run_behind("abcd"), "abcd").cohort == ("a", "b", "c", "d")


def test_each_is_asked_on_its_data_version_of_the_run(run_behind):
    run = run_behind("abc")
    run.folder.note(versions={name: f"version of {name}" for name in "abc"})
    told = run.sum(run.plan(0, "abc"), "echo", keep=False).results
    assert {name: each["version"] for name, each in told.items()} == run.versions


def test_who_has_chosen_nothing_in_the_round_before_has_missed_it(run_behind):
    run = run_behind({})
    run.folder.note(missing={"d": "no file"})
    assert run.missed("abcd") == {}
    run.folder.begin(0)
    run.folder.finish(0, {"number": 0, "scored": ["a", "b"], "lost": {"c": "its process ended"}})
    assert run.missed("abcd") == {"c": "missed round 0: its process ended", "d": "missed round 0: no file"}


@pytest.fixture
def trained(api, tmp_path, monkeypatch):
    """Train four participants without work; `trouble(name, job, number)` says whether that asking is lost, or
    what is told instead."""
    import overhead

    from flows.train import train
    from tasks import opening

    def run(trouble):
        class Troubled(overhead.Idle):
            def ask(self, job, arguments=None, **options):
                told = trouble(self.name, job, (arguments or {}).get("number"))
                if told is True:
                    raise Lost({self.name: "its process ended"})
                return told or super().ask(job, arguments, **options)

        @contextmanager
        def doors(home, memberships):
            yield {each.name: Troubled(each.name) for each in memberships}

        monkeypatch.setattr(opening, "open_doors", doors)
        return train(consortium=overhead.consortium(tmp_path, 4), run="r")

    return run


def test_who_was_lost_in_the_first_round_is_left_out_of_the_second(trained):
    asked = set()

    def trouble(name, job, number):
        asked.add((name, job, number))
        return name == "p003" and job == "score"

    figures = trained(trouble)
    assert {name for name, job, number in asked if (job, number) == ("train", 1)} == {"p000", "p001", "p002"}
    assert figures["lost"] == {"p003": "missed round 0: p003: its process ended"}
    assert figures["participants"]["p000"]["data_version"] == "0" * 64


def test_who_tells_of_its_scores_what_is_no_figure_is_lost(trained):
    told = {"consortium": {"ndcg_at_10": "high"}}
    figures = trained(lambda name, job, number: told if (name, job) == ("p003", "score") else False)
    assert figures["lost"] == {"p003": "missed round 0: p003: told of its scores what is no figure"}


def test_what_is_no_item_or_not_on_the_grid_is_not_believed(run_behind):
    run = run_behind({"a": SimpleNamespace(ask=lambda *_, **__: {"items": ["x", 1]})})
    run.folder.note(versions={"a": "1"})
    with pytest.raises(Refused, match="a: told no list of item ids"):
        agree_catalogue.fn(("a",), run)
    chosen = {
        name: {"chosen": {"consortium_strength": told}}
        for name, told in {"a": "x", "b": 1e-9, "c": 50}.items()
    }
    item_to_item = replace(run, model=ModelConfig(kind="item_to_item"))
    assert _regularisation({"participants": {**chosen, "d": {"chosen": None}}}, item_to_item) == 50


def test_a_run_is_resumed_without_one_that_cannot_be_prepared_any_more(trained):
    with pytest.raises(TooFew):
        trained(lambda name, job, number: job == "score")
    figures = trained(lambda name, job, number: (name, job) == ("p003", "prepare"))
    assert set(figures["lost"]) == {"p003"}
    assert figures["participants"]["p000"]["data_version"] == "0" * 64


def test_a_round_that_could_not_be_reported_fails_the_run_and_is_told_by_its_resume(
    trained, monkeypatch, tmp_path
):
    home, refused = tmp_path / "state" / "empty", []
    log_metrics = Tracking.log_metrics

    def once(tracking, run_id, step, metrics):
        if not refused:
            refused.append(step)
            raise OSError("no space left")
        log_metrics(tracking, run_id, step, metrics)

    monkeypatch.setattr(Tracking, "log_metrics", once)
    with pytest.raises(OSError, match="no space left"):
        trained(lambda *_: False)
    facts = find_run(home, "r").facts
    assert (facts["status"], len(find_run(home, "r").rounds)) == ("failed", 2)
    trained(lambda *_: False)
    history = Tracking(TrackingConfig(), home).client.get_metric_history(facts["mlflow_run_id"], "ndcg_at_10")
    assert (find_run(home, "r").facts["status"], [each.step for each in history]) == ("finished", [0, 1])


def test_a_run_whose_end_mlflow_did_not_hear_of_is_told_by_its_resume(trained, monkeypatch, tmp_path):
    home, finish = tmp_path / "state" / "empty", Tracking.finish

    def silent(tracking, run_id, status):
        raise OSError("no answer")

    monkeypatch.setattr(Tracking, "finish", silent)
    with pytest.raises(TooFew):
        trained(lambda name, job, number: job == "score")
    with pytest.raises(OSError, match="no answer"):
        trained(lambda *_: False)
    assert find_run(home, "r").facts["status"] == "failed"
    monkeypatch.setattr(Tracking, "finish", finish)
    trained(lambda *_: False)
    assert find_run(home, "r").facts["status"] == "finished"
    assert Tracking(TrackingConfig(), home).is_finished("r")


def test_prefects_log_tells_what_was_said_and_not_of_each_task_that_it_completed(trained, client, tmp_path):
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.logging.handlers import APILogWorker

    trained(lambda *_: False)
    APILogWorker.drain_all(timeout=10, at_exit=False)
    flow_run_id = UUID(find_run(tmp_path / "state" / "empty", "r").facts["flow_run_id"])
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
    lines = [each.message for each in client.read_logs(chosen) if each.task_run_id is not None]
    assert {"p000: data version 000000000000", "round 1: checkpointed and logged"} <= {*lines}
    assert not [line for line in lines if "Completed" in line]
