"""A run under way: as an argument of Prefect's tasks, and its sums after it was cut off."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from prefect.utilities.annotations import quote
from prefect.utilities.engine import collect_task_run_inputs_sync
from processes import door_of

from feature_store.splits import LeaveLastOut
from federation.errors import BadInput, Lost, Refused, TooFew
from federation.files import save
from federation.gate import GateConfig
from federation.policy import RoundPolicy
from federation.summed import Summed
from mlruns_config.config import TrackingConfig
from mlruns_config.tracking import Tracking
from tasks.champion import _ahead
from tasks.doors import open_doors
from tasks.model import ModelConfig
from tasks.publish import _regularisation, by_arm
from tasks.run import Run
from tasks.runs import RunFolder, runs_folder
from tasks.sums import agree_catalogue


class Untouched(dict):
    def items(self):
        raise AssertionError("somebody looks behind the doors")


@pytest.fixture
def run_behind(tmp_path):
    """The run `r` behind the doors that are given, or of participants by name; they end with the test."""
    opened = []

    def run(doors):
        if isinstance(doors, str):
            doors = {name: door_of(name, tmp_path, "--memory", str(tmp_path / name)) for name in doors}
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
            agreed={},
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
    [
        "0/../../other/round-0000/sum", "0/../../../participants/b/sum", "0//{}/sum", "x/sum", "/sum",
        "-1/sum", "0/sum\0", "0/s\num", "9" * 5000 + "/sum", "0/" + "s" * 5000, "0/" + "s/" * 5000 + "s",
    ],
)  # fmt: skip
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
    run.folder.begin(0)
    save(run.folder.path / "round-0000.under-way" / "sum.npy", np.array([7.0]))
    with pytest.raises(Refused, match="may not read '0/sum'"):
        run.ask("a", "score")("0/sum")
    Summed(run.folder.path.parent).note(run.plan(0, "abc"), "gather", tuple("abc"))
    assert run.ask("a", "score")("0/sum") == [7.0]
    with pytest.raises(Refused, match="may not read '0/sum'"):
        run.ask("d", "score")("0/sum")


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


def test_a_folder_that_cannot_be_written_is_told_when_its_participant_is_asked(tmp_path):
    (tmp_path / "participants").mkdir()
    (tmp_path / "participants" / "a").write_text("in the way of the folder")
    told = SimpleNamespace(name="a", certificate=None, model_dump=lambda mode: {})
    why = ".*/participants/a: File exists"
    with open_doors(tmp_path, [told]) as doors, pytest.raises(BadInput, match=f"^a: cannot start: {why}$"):
        doors["a"].ask("prepare")


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


@pytest.mark.parametrize(
    ("then", "now", "ahead"),
    [
        (("temporal", "2026-01-01", "2026-02-01"), ("temporal", "2026-01-03", "2026-02-01"), False),
        (("temporal", "2026-01-01", "2026-02-01"), ("temporal", "2026-01-01", "2026-01-31"), True),
        (("leave-last-out",), ("temporal", "2026-01-01", "2026-02-01"), True),
        (("temporal", "2026-01-01", "2026-02-01"), ("leave-last-out",), True),
        (("given",), ("leave-last-out",), True),
        (("given",), ("given",), False),
    ],
)
def test_a_champion_that_has_learned_from_the_window_is_told(tmp_path, then, now, ahead):
    first, second = (RunFolder(runs_folder(tmp_path) / name) for name in ("first", "second"))
    for folder, (split, *cuts) in ((first, then), (second, now)):
        folder.note(run=folder.run, split=split, cuts=cuts)
    assert _ahead("of another state folder", second) == ""
    assert ("see `chorus promote second`" in _ahead("first", second)) == ahead


@pytest.mark.parametrize(
    ("new", "more", "told"),
    [([], {}, "nobody has an item"), (["x"] * 99, {"memory_gb": 1e-6}, "item-to-item over 99 items needs")],
)
def test_what_no_catalogue_can_be_made_of_is_told_before_there_is_one(
    run_behind, monkeypatch, new, more, told
):
    model = ModelConfig(kind="item_to_item", **more)
    run = replace(run_behind({}), grows=True, model=model)
    reply = SimpleNamespace(plan=None, results={"a": {"items": new}}, lost={})
    monkeypatch.setattr(Run, "sum", lambda *_, **__: reply)
    with pytest.raises(BadInput, match=told):
        agree_catalogue.fn(("a",), run)
    assert not run.catalogue.exists()


def test_a_run_is_not_resumed_with_another_catalogue(run_behind):
    run = run_behind({})
    run.catalogue.write_text("x\ny\n")
    agree_catalogue.fn(("a",), run)
    agree_catalogue.fn(("a",), run)
    run.catalogue.write_text("x\ny\nnewer\n")
    agree_catalogue.fn(("a",), run)
    assert run.items == 2
    run.catalogue.write_text("y\nz\n")
    with pytest.raises(BadInput, match=f"{run.catalogue}: found other items than when run 'r' began"):
        agree_catalogue.fn(("a",), run)


def test_what_is_not_on_the_grid_is_not_believed(run_behind):
    run = run_behind({})
    chosen = {
        name: {"chosen": {"consortium_strength": told}}
        for name, told in {"a": "x", "b": 1e-9, "c": 50}.items()
    }
    item_to_item = replace(run, model=ModelConfig(kind="item_to_item"))
    assert _regularisation({"participants": {**chosen, "d": {"chosen": None}}}, item_to_item) == 50


def test_what_is_shown_ends_with_all_users_though_nobody_discloses():
    figures = {"participants": {"a": {"consortium": None}}, "overall": {"consortium": {"ndcg_at_10": 0.2}}}
    shown = by_arm(figures, "ndcg_at_10", ("consortium",))
    assert shown == {"a": {"consortium": None}, "all users": {"consortium": 0.2}}
