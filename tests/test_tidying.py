"""Housekeeping keeps what a kept run needs, and the champion's; each participant tidies its own side."""

import os
import time

import pytest

from federation.door import Door
from federation.errors import Lost, Refused
from flows import housekeeping, operate
from flows.consortium import read_consortium
from flows.deploy import order_of
from tasks.answers import ask_participant
from tasks.runs import RunFolder, all_runs, runs_folder
from tasks.tidying import kept_runs, tidy_participants, tidy_runs

OLD = time.time() - 30 * 86_400


def run(home, name, status, minute):
    folder = RunFolder(runs_folder(home) / name)
    folder.note(run=name, status=status, created_at=f"2026-01-01T00:{minute:02}:00")
    (folder.path / "round-0000").mkdir()
    (folder.path / "round-0000" / "popularity.npy").write_bytes(b"sum")
    return folder


def aged(path):
    path.mkdir(parents=True)
    os.utime(path, (OLD, OLD))
    return path


def test_the_newest_the_champions_and_the_unfinished_are_kept(tmp_path):
    for minute, (name, status) in enumerate(
        [("a", "finished"), ("b", "failed"), ("c", "finished"), ("d", "finished"), ("e", "finished")]
    ):
        run(tmp_path, name, status, minute)
    assert kept_runs(tmp_path, newest=2, champions=["a"]) == ["a", "b", "d", "e"]
    assert kept_runs(tmp_path, newest=9, champions=[]) == ["a", "b", "c", "d", "e"]
    assert tidy_runs.fn(tmp_path, ["a", "b", "d", "e"]) == 1
    assert tidy_runs.fn(tmp_path, ["a", "b", "d", "e"]) == 0
    with_sums = [each.run for each in all_runs(tmp_path) if [*each.path.glob("round-*/*.npy")]]
    assert with_sums == ["a", "b", "d", "e"]
    assert [each.facts["status"] for each in all_runs(tmp_path)].count("finished") == 4  # records stay


def test_each_participant_tidies_its_own_folder(tiny):
    consortium = read_consortium(tiny("tidy"))
    own = consortium.home / "participants" / "north"
    gone = [aged(own / "models" / "old"), aged(own / "work" / "old"), aged(own / "store" / "other-settings")]
    kept = [aged(own / "models" / "kept"), own / "models" / "young"]
    kept[1].mkdir()
    memberships = consortium.memberships
    dropped, lost = tidy_participants.fn(consortium.home, memberships, ["kept"])
    assert (dropped, lost) == ({"east": 0, "north": 3, "south": 0}, {})
    hurried = read_consortium(tiny("tidy", "rounds: {deadline_seconds: 0.01}")).memberships
    dropped, lost = tidy_participants.fn(consortium.home, hurried, ["kept"])
    assert (dropped, lost["east"]) == ({}, "silent until its deadline of 0.01 s")
    with pytest.raises(Lost, match=r"east: silent until its deadline of 0\.01 s"):
        ask_participant(consortium.home, consortium.names, "east", "kept", "u", 10)
    assert not [each for each in gone if each.exists()]
    assert all(each.exists() for each in kept)


def test_one_that_does_not_tidy_keeps_nobody_else_from_it(tiny, monkeypatch):
    """Else a refusal passed for a state folder in use, and opened sums lay on disk for ever."""

    def ask(self, job, *_, **__):
        if self.name == "east":
            raise Refused("east: will not")
        return {"dropped": "many" if self.name == "north" else 2}

    monkeypatch.setattr(Door, "ask", ask)
    path = tiny("tidy", "schedule: {keep_runs: 1}")
    home = read_consortium(path).home
    for minute, name in enumerate("ab"):
        run(home, name, "finished", minute)
    for task in (tidy_participants, tidy_runs):
        monkeypatch.setattr(housekeeping, task.fn.__name__, task.fn)
    monkeypatch.setattr(housekeeping, "tidy_flow_runs", lambda *_: 0)
    monkeypatch.setattr(operate, "_log", lambda _: None)
    state = housekeeping.housekeeping.fn(order_of(path, None))
    assert state.is_failed()
    assert [each.run for each in all_runs(home) if [*each.path.glob("round-*")]] == ["b"]
    assert state.message == (
        "dropped 2 folders of participants, the sums of 1 runs, 0 flow runs; not those of "
        "east: will not; north: told of its folders what is no figure"
    )
