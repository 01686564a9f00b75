"""Champions in a real MLflow registry: promoted, rolled back, interrupted, remembered."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow

from federation.errors import BadInput
from federation.files import write_json
from federation.gate import GateConfig
from federation.policy import RoundPolicy
from flows import champion
from flows.consortium import read_consortium
from mlruns_config.champions import Champions, Change, stack
from mlruns_config.config import TrackingConfig
from mlruns_config.tracking import Tracking
from tasks.champion import answer, cohort_change, verdict
from tasks.runs import RunFolder, all_runs, runs_folder


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    return Tracking(TrackingConfig(), tmp_path_factory.mktemp("champions"))


def champions(tracking, name, versions):
    """A registered model with so many versions, by the runs `<name>-1`, ..., none of them champion."""
    tracking.client.create_registered_model(name)
    for number in range(1, versions + 1):
        run_id = tracking.start_or_continue(f"{name}-{number}", name, {}, {})
        tracking.client.create_model_version(name, f"runs:/{run_id}/model", run_id=run_id)
        assert Champions(tracking, name).trained_by(run_id) == number
    return Champions(tracking, name)


def promoted(found, version):
    """What the version's run says of it at MLflow; the version itself says the same."""
    registered = found.client.get_model_version(found.name, str(version))
    tags = found.client.get_run(registered.run_id).data.tags
    assert registered.tags["chorus.verdict"] == tags["chorus.verdict"]
    return tags["chorus.promoted"], tags["chorus.verdict"]


def test_nothing_is_champion_before_anything_is_registered(tracking):
    found = Champions(tracking, "nobody")
    assert (found.version(), found.run(), found.changes(), found.standing()) == (None, None, [], [])
    assert found.rollback("why not") is None


def test_versions_that_were_deleted_at_mlflow_are_passed_over(tracking):
    found = champions(tracking, "deleted", 5)
    for version in (1, 2, 3, 4, 5):
        found.promote(version, f"because of {version}")
    for version in ("4", "2"):
        tracking.client.delete_model_version("deleted", version)
    assert found.standing() == ["deleted-3", "deleted-5"]
    assert found.rollback("worse after all") == 3
    tracking.client.delete_model_version("deleted", "3")
    assert (found.version(), found.standing()) == (None, ["deleted-1"])
    assert found.rollback("it is gone") == 1
    assert (found.version(), found.rollback("once more")) == (1, None)
    found.promote(5, "a person said so")
    assert found.rollback("no") == 1


def test_a_champion_that_came_back_after_a_deleted_one_is_not_gone_back_to(tracking):
    found = champions(tracking, "again", 3)
    for version in (1, 2, 3, 2):
        found.promote(version, f"because of {version}")
    tracking.client.delete_model_version("again", "3")
    assert found.standing() == ["again-1", "again-2"]
    assert (found.rollback("worse after all"), found.version()) == (1, 1)
    assert (found.rollback("once more"), found.version()) == (None, 1)


def test_a_champion_whose_run_was_deleted_at_mlflow_is_left_and_come_back_to(tracking):
    found = champions(tracking, "cleared", 3)
    for version in (1, 2, 3):
        found.promote(version, f"because of {version}")
    for version in ("1", "3"):
        tracking.client.delete_run(tracking.client.get_model_version("cleared", version).run_id)
    assert (found.rollback("worse after all"), found.version()) == (2, 2)
    assert promoted(found, 2) == ("true", "worse after all")
    found.promote(3, "not worse")
    assert (found.version(), found.rollback("it is"), found.rollback("so it is")) == (3, 2, 1)
    verdicts = [tracking.client.get_model_version("cleared", each).tags["chorus.verdict"] for each in "13"]
    assert verdicts == ["so it is", "Left for version 2: it is"]


def test_rollback_goes_back_through_all_that_were_promoted(tracking):
    found = champions(tracking, "back", 3)
    for version in (1, 2, 3):
        found.promote(version, f"because of {version}")
    found.promote(3, "again")
    assert (found.version(), found.run()) == (3, "back-3")
    assert found.standing() == ["back-2", "back-3"]
    assert found.rollback("worse after all") == 2
    assert (found.version(), found.run()) == (2, "back-2")
    assert found.rollback("even so") == 1
    assert found.rollback("once more") is None
    assert found.version() == 1
    found.promote(3, "a person said so")
    assert found.rollback("no") == 1
    told = [(each.kind, each.before, each.version, each.reason) for each in found.changes()]
    assert told == [
        ("promotion", None, 1, "because of 1"),
        ("promotion", 1, 2, "because of 2"),
        ("promotion", 2, 3, "because of 3"),
        ("rollback", 3, 2, "worse after all"),
        ("rollback", 2, 1, "even so"),
        ("promotion", 1, 3, "a person said so"),
        ("rollback", 3, 1, "no"),
    ]


def test_a_change_that_was_interrupted_is_done_by_doing_it_again(tracking, monkeypatch):
    found = champions(tracking, "torn", 2)
    found.promote(1, "first")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tracking.client, "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            found.promote(2, "second")
    assert (found.version(), len(found.changes())) == (1, 2)
    found.promote(2, "second")
    assert (found.version(), len(found.changes())) == (2, 2)


def test_a_rollback_that_was_interrupted_goes_back_once(tracking, monkeypatch):
    found = champions(tracking, "torn-back", 3)
    for version in (1, 2, 3):
        found.promote(version, "better")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tracking.client, "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            found.rollback("not good")
    assert found.version() == 3
    assert found.rollback("not good") == 2
    assert (found.version(), len(found.changes())) == (2, 4)
    assert found.rollback("nor this") == 1


@pytest.mark.parametrize("queries", [0.0, 1.0])
def test_no_training_is_promoted_where_nobody_was_asked(tracking, tmp_path, queries):
    folder = RunFolder(tmp_path / "unasked-1")
    folder.note(champion=None)
    write_json(folder.path / "round-0000" / "record.json", {"overall": {"consortium": {"queries": queries}}})
    policy, name = RoundPolicy(), "unasked"
    run = SimpleNamespace(folder=folder, tracking=tracking, consortium=name, gate=GateConfig(), policy=policy)
    assert verdict(run).promote == bool(queries)


def test_a_late_approval_does_not_replace_another_champion(client, tracking, tmp_path):
    found = champions(tracking, "late", 3)
    found.promote(1, "first")
    folder = RunFolder(tmp_path / "late-2")
    gate = {"promote": False, "waits": True, "reason": "better", "joined": [], "left": []}
    version = tracking.client.get_model_version("late", "2")
    folder.note(
        champion="late-1",
        model_version=2,
        mlflow_run_id=version.run_id,
        figures={"gate": gate, "run": "late-2"},
    )
    found.promote(3, "meanwhile")
    approve = flow(name="late")(lambda: answer(True, "looks good", tracking, "late", folder))
    told = approve()
    assert found.version() == 3
    assert (told["gate"]["promote"], told["gate"]["waits"]) == (False, False)
    assert "changed meanwhile" in told["gate"]["reason"]
    found.rollback("not")
    assert approve()["gate"]["promote"]
    assert found.version() == 2
    shown = [each.description for each in client.read_artifacts() if each.key == "gate"]
    assert {"Run late-2, version 2, not promoted", "Run late-2, version 2, promoted"} <= set(shown)


def test_a_champion_from_before_there_was_a_history_can_be_gone_back_to(tracking):
    found = champions(tracking, "old", 2)
    tracking.client.set_registered_model_alias("old", "champion", "1")
    found.promote(2, "better")
    assert found.rollback("not") == 1


@given(st.lists(st.one_of(st.integers(1, 9), st.none()), max_size=30))
def test_the_stack_is_that_of_a_list(orders):
    plain, changes = [], []
    for order in orders:
        before = plain[-1] if plain else None
        if order is not None:
            plain.append(order)
        elif len(plain) > 1:
            plain.pop()
        else:
            continue
        kind = "rollback" if order is None else "promotion"
        at = np.datetime64("2026-01-01").item()
        changes.append(Change(kind=kind, version=plain[-1], before=before, at=at, reason=""))
    assert stack(changes) == plain


def test_a_person_promotes_by_run_or_version_and_goes_back(tiny, tmp_path, capsys):
    path = tiny("tiny")
    consortium = read_consortium(path)
    with pytest.raises(
        BadInput, match="'1': found no such version, nor one of that run; expected one of: none"
    ):
        champion.promote("1", path, None)
    with pytest.raises(BadInput, match="tiny: found no champion yet, expected one to go back to"):
        champion.rollback(path, None)
    tracking = Tracking(consortium.tracking, consortium.home)
    found = champions(tracking, "tiny", 2)
    for number in (1, 2):
        folder = RunFolder(runs_folder(consortium.home) / f"tiny-{number}")
        run_id = tracking.client.get_model_version("tiny", str(number)).run_id
        asks = {"gate": {"promote": False, "waits": True}}
        folder.note(mlflow_run_id=run_id, model_version=number, figures=asks)
    champion.promote("tiny-2", path, None)
    gates = [each.facts["figures"]["gate"] for each in all_runs(consortium.home)]
    assert gates == [{"promote": False, "waits": True}, {"promote": True, "waits": False}]
    assert (found.run(), promoted(found, 2)) == ("tiny-2", ("true", "A person promoted it."))
    assert "Warning: housekeeping has dropped the participants' models" in capsys.readouterr().out
    write_json(runs_folder(consortium.home) / "tiny-1" / "round-0000" / "record.json", {})
    champion.promote("1", path, None)
    assert "Warning" not in capsys.readouterr().out
    assert (found.run(), promoted(found, 1)) == ("tiny-1", ("true", "A person promoted it."))
    assert promoted(found, 2) == ("false", "Left for version 1: A person promoted it.")
    champion.rollback(path, tmp_path / "back.json")
    assert (promoted(found, 1)[0], promoted(found, 2)) == ("true", ("true", "A person went back to it."))
    told = json.loads((tmp_path / "back.json").read_text())
    assert (told["champion"], told["run"], len(told["changes"])) == (2, "tiny-2", 3)
    assert "The champion is version 2, of run tiny-2." in capsys.readouterr().out
    with pytest.raises(BadInput, match="tiny: found no champion before version 2, expected one"):
        champion.rollback(path, None)
    with pytest.raises(BadInput, match=r"'9': .* expected one of: 1, 2"):
        champion.promote("9", path, None)
    with pytest.raises(BadInput, match="run 'nobody' is not known"):
        champion.promote("nobody", path, None)


def test_who_is_not_in_a_round_has_left_and_joins_when_it_is_in_it_again(tmp_path):
    found = []
    for name, cohorts in (("1", ("abcd", "abcd")), ("2", ("abcd", "abc")), ("3", ("abcd", "abcd"))):
        folder = RunFolder(runs_folder(tmp_path) / name)
        folder.note(run=name, created_at=name)
        for number, cohort in enumerate(cohorts):
            folder.begin(number)
            folder.add_step(number, "summed", {"cohort": [*cohort]})
        found.append(cohort_change(SimpleNamespace(folder=folder, name=name)))
    assert [each["joined"] for each in found] == [[], [], ["d"]]
    assert [each["left"] for each in found] == [[], ["d"], []]
