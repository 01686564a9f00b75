"""A whole training over participants without work: who is left out, what is told, and its resumption."""

import threading
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from uuid import UUID

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from federation.errors import Lost, Refused, TooFew
from mlruns_config.config import TrackingConfig
from mlruns_config.tracking import Tracking
from tasks.runs import find_run
from tasks.work import Imported, Scored, Work, believed, tabulate_participant


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
    assert figures["lost"] == {"p003": "missed round 0: its process ended"}
    assert figures["exposed"] == ["p003"]  # the round's sum had its terms, the next has not
    assert figures["participants"]["p000"]["data_version"] == "0" * 64


def test_who_tells_of_its_scores_what_is_no_figure_is_lost(trained):
    told = {"consortium": {"ndcg_at_10": "high"}}
    figures = trained(lambda name, job, number: told if (name, job) == ("p003", "score") else job == "forget")
    assert figures["lost"] == {"p003": "missed round 0: told of its scores what is no figure"}


def test_who_tells_of_its_data_what_is_no_figure_is_left_out(trained):
    told = {"version": "0" * 64, "users": "many"}
    figures = trained(lambda name, job, number: told if (name, job) == ("p003", "prepare") else None)
    assert figures["lost"] == {"p003": "told of its data what is no figure"}


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        *((Scored, {"consortium": {name: 0.5}}) for name in ("ndcg\0", "../x", "x\n", "n" * 300, "")),
        (Imported, {"rows": 10**4000}),
        (Imported, {"version": "x" * 1_000_000}),
        (Imported, {"version": "0" * 1_000_000}),
    ],
)
def test_what_no_honest_participant_tells_is_not_believed(kind, told):
    honest = {"version": "0" * 64} if kind is Imported else {"seconds": 1.0}
    assert believed("a", "itself", kind, honest) == honest
    with pytest.raises(Refused, match=r"^a: told of itself what is no figure$"):
        believed("a", "itself", kind, honest | told)


@pytest.mark.parametrize("told", [{}, {"teaches": "x"}, {"teaches": True, "more": [1]}])
def test_who_does_not_tell_whether_it_teaches_the_ranker_is_refused(told):
    asked = SimpleNamespace(solving=nullcontext(), ask=lambda *_, **__: told)
    with pytest.raises(Refused, match=r"^a: told of its candidates what is no figure$"):
        tabulate_participant.fn(Work("a", 0, "0", [], asked))


def test_a_run_is_resumed_without_one_that_cannot_be_prepared_any_more(trained, capsys):
    with pytest.raises(TooFew):
        trained(lambda name, job, number: job == "score")
    figures = trained(lambda name, job, number: (name, job) == ("p003", "prepare"))
    assert (set(figures["lost"]), figures["exposed"]) == ({"p003"}, ["p003"])
    assert "p003 is left out: its process ended\n" in capsys.readouterr().err
    assert figures["participants"]["p000"]["data_version"] == "0" * 64


def test_a_round_that_could_not_be_reported_fails_the_run_and_is_told_by_its_resume(
    trained, client, monkeypatch, tmp_path
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
    ran = FlowRunFilter(id=FlowRunFilterId(any_=[find_run(home, "r").facts["flow_run_id"]]))
    shown = {each.key: each for each in client.read_artifacts(flow_run_filter=ran)}
    assert (shown["progress"].data, "round 1 (test)" in shown["participants"].description) == (100, True)
    history = Tracking(TrackingConfig(), home).client.get_metric_history(facts["mlflow_run_id"], "ndcg_at_10")
    assert (find_run(home, "r").facts["status"], [each.step for each in history]) == ("finished", [0, 1])


def test_a_run_whose_end_mlflow_did_not_hear_of_is_told_by_what_comes_next(
    trained, monkeypatch, tmp_path, capsys
):
    import overhead

    from flows import operate

    home, finish, marked = tmp_path / "state" / "empty", Tracking.finish, list[str]()

    def silent(tracking, run_id, status):
        raise OSError("no answer")

    monkeypatch.setattr(Tracking, "finish", silent)
    with pytest.raises(TooFew):
        trained(lambda name, job, number: job == "score")
    with pytest.raises(OSError, match="no answer"):
        trained(lambda *_: False)
    assert find_run(home, "r").facts["status"] == "failed"
    monkeypatch.setattr(Tracking, "finish", lambda *told: marked.append("MLflow") or finish(*told))
    monkeypatch.setattr(operate.flow_runs, "mark_crashed", lambda *_: marked.append("Prefect"))
    find_run(home, "r").note(status="running")  # as one whose process was killed
    operate.mark_crashed(overhead.consortium(tmp_path, 4))
    assert marked == ["Prefect", "MLflow"]  # which may be silent
    assert "r ended without a word; telling MLflow (20 s at most)" in capsys.readouterr().err
    answers = threading.Event()
    monkeypatch.setattr(operate, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(Tracking, "finish", lambda *_: answers.wait())
    find_run(home, "r").note(status="running")
    operate.mark_crashed(overhead.consortium(tmp_path, 4))  # does not wait for it
    answers.set()
    monkeypatch.setattr(Tracking, "finish", lambda *_: marked.append("late"))
    find_run(home, "r").note(status="running")
    operate.mark_crashed(overhead.consortium(tmp_path, 4), resumed="r")
    assert "late" not in marked
    assert (
        find_run(home, "r").facts["status"] == "running"
    )  # or nobody tells MLflow of a resume that ends now
    monkeypatch.setattr(Tracking, "finish", finish)
    operate.mark_crashed(overhead.consortium(tmp_path, 4))
    told, run_id = Tracking(TrackingConfig(), home), find_run(home, "r").facts["mlflow_run_id"]
    assert told.client.get_run(run_id).info.status == "FAILED"
    trained(lambda *_: False)
    assert find_run(home, "r").facts["status"] == "finished"
    assert told.is_finished("r")


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
