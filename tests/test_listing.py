"""`chorus runs`: what has become of each run, which model is the champion, and damaged records."""

import os
import re
from types import SimpleNamespace

import pytest

from federation.errors import BadInput
from flows import listing
from tasks import locks
from tasks.answers import ask_participant
from tasks.opening import _noted
from tasks.runs import RunFolder, runs_folder


def test_a_run_that_was_interrupted_says_so_in_the_list(tmp_path):
    folder = RunFolder(tmp_path / "a-run")
    folder.note(mlflow_run_id="m")
    with pytest.raises(KeyboardInterrupt), _noted(folder, SimpleNamespace(finish=lambda *_: None)):
        raise KeyboardInterrupt
    assert (folder.facts["status"], folder.facts["reason"]) == ("failed", "interrupted")


def test_a_run_whose_process_is_gone_is_not_listed_as_running(ends, tiny, tmp_path):
    home, path = tmp_path / "state" / "tiny", tiny("tiny")
    processes = {"killed": {"process": f"{os.getpid()} on another"}, "works": {"process": locks.me()}}
    for name, process in (processes | {"old": {}}).items():
        RunFolder(runs_folder(home) / name).note(run=name, status="running", **process)
    with locks.exclusive(home):
        told = ends("runs", path, code=0)
        assert re.search(r"works +running", told)
        assert re.search(r"old +running", told)  # of which the version that began it did not note whose it is
        assert re.search(r"killed +crashed", told)
        assert "killed: its process ended without a word; `chorus resume` goes on with it" in told
    assert re.search(r"works +crashed", ends("runs", path, code=0))


def test_the_runs_are_listed_though_mlflow_does_not_know_the_champion(ends, tiny, tmp_path, monkeypatch):
    RunFolder(runs_folder(tmp_path / "state" / "tiny") / "one").note(
        run="one", status="finished", model_version=1
    )
    (tmp_path / "state" / "tiny" / "mlflow").mkdir()
    (tmp_path / "state" / "tiny" / "mlflow" / "mlflow.db").write_text("no database, but something else")
    told = " ".join(ends("runs", tiny("tiny"), code=0).split())
    assert "one finished 1 Which model is the champion is not known: tracking.uri: found sqlite" in told
    monkeypatch.setattr(listing, "within_silence", lambda _: None)
    assert "not known: MLflow does not answer within 20 s\n" in ends("runs", tiny("tiny"), code=0)


@pytest.mark.parametrize(
    "content", ["", '{"run": "one"', "\x00" * 9, b"\xff\xfe", "[]", '[["run", 1]]', "3", "{}"]
)
def test_a_damaged_record_is_named_without_a_traceback(ends, tiny, tmp_path, content):
    record = tmp_path / "state" / "tiny" / "coordinator" / "runs" / "one" / "run.json"
    record.parent.mkdir(parents=True)
    record.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert f"chorus: {record}: found no" in ends("runs", tiny("tiny"), code=2)
    told = tmp_path / "state" / "tiny" / "participants" / "east" / "membership.json"
    told.parent.mkdir(parents=True)
    told.write_bytes(record.read_bytes())
    with pytest.raises(BadInput, match=rf"{told}: found no such JSON \("):
        ask_participant(told.parents[2], ["east"], "east", "one", "u", 10)
