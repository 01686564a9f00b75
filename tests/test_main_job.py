"""The main job from the command line: real processes, a real Prefect server, a real MLflow store."""

import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import numpy as np


def test_the_table_and_the_json_tell_the_same(ran):
    figures = json.loads((ran.folder / "figures.json").read_text())
    assert set(figures["participants"]) == {"north", "south", "east"}
    together = figures["participants"]["north"]["consortium"]["ndcg_at_10"]
    assert f"{together:.4f}".removeprefix("0") in ran.done.stdout
    assert (
        0 < figures["overall"]["consortium"]["ndcg_at_10"] < figures["overall"]["reachable"]["ndcg_at_10"] < 1
    )
    assert " ui " in ran.done.stdout


def test_the_design_names_what_lies_in_the_state_folder(ran):
    _, tree, _ = (Path(__file__).parents[1] / "docs" / "design.md").read_text().split("```")
    for folder in (ran.home, ran.home / "participants" / "north", ran.home / "coordinator"):
        assert not {path.name for path in folder.iterdir() if path.name not in tree}


def test_what_a_participant_does_not_disclose_is_nowhere(ran):
    """South hides all: no table, JSON, log or database has its rows, users or figures."""
    south = json.loads((ran.folder / "figures.json").read_text())["participants"]["south"]
    assert {name for name, value in south.items() if value is not None} == {"data_version"}
    (store,) = (ran.home / "participants" / "south" / "store").iterdir()
    rows = json.loads((store / "south" / "manifest.json").read_text())["rows"]
    assert rows > 1000
    with sqlite3.connect(ran.home / "prefect" / "prefect.db") as database:
        told = [str(each) for table in ("log", "artifact", "task_run", "flow_run", "flow_run_state")
                for each in database.execute(f"select * from {table}").fetchall()]  # fmt: skip
        ((table,),) = database.execute(
            "select data from artifact where key = 'participants' limit 1"
        ).fetchall()
    worked = {row["participant"] for row in json.loads(json.loads(table)) if float(row["seconds of its own"])}
    assert worked == {"north", "south", "east"}
    told += [ran.done.stdout, ran.done.stderr, (ran.run / "run.json").read_text()]
    told += [path.read_text() for path in (ran.home / "prefect" / "storage").rglob("*") if path.is_file()]
    told += [path.read_text() for path in (ran.home / "mlflow").rglob("*.json")]
    for text in told:
        assert f"{rows:,}" not in text
        assert not re.search(rf"(?<![\w.-]){rows}(?![\w-])", text)  # within an id it is chance
    with sqlite3.connect(ran.home / "mlflow" / "mlflow.db") as database:
        keys = {key for (key,) in database.execute("select key from metrics").fetchall() if "south" in key}
    assert keys == {"participant/south/bytes_up", "participant/south/bytes_down"}
    checked = ran.chorus("check", ran.folder / "small.yaml", "--json", "check.json")
    assert f"{rows:,}" not in checked.stdout
    for what in ("metrics", "rows"):  # what all have less what the others tell is south's
        assert f"Warning: only south hides its {what}; the " in checked.stdout
    found = json.loads((ran.folder / "check.json").read_text())["participants"]
    assert found["south"] == dict.fromkeys(("rows", "unlisted", "cleaning", "from", "to"))
    assert found["north"]["rows"] == found["north"]["cleaning"]["kept"] > 1000


def test_a_finished_run_shows_its_table_again_and_is_not_redone(ran, ends):
    path, before = ran.folder / "small.yaml", (ran.run / "run.json").read_bytes()
    ends("resume", ran.run.name, path, "--json", ran.folder / "again.json", code=0)
    again, first = (json.loads((ran.folder / name).read_text()) for name in ("again.json", "figures.json"))
    assert again == {key: first[key] for key in again}
    assert "is finished" in ends("rerun", ran.run.name, path, "--participant", "north", code=2)
    assert (ran.run / "run.json").read_bytes() == before


def test_prefect_holds_every_task_run_in_a_final_state(ran):
    with sqlite3.connect(ran.home / "prefect" / "prefect.db") as database:
        states = dict(database.execute("select state_type, count(*) from task_run group by 1").fetchall())
        flows = database.execute("select state_type from flow_run").fetchall()
    grown = len([*ran.run.glob("round-*/grown-*.json")])
    assert grown > 0
    # 3 prepare, champion, catalogue, cuts; a round: 3 train, 3 find, 3 score, aggregate, evaluate, log; close
    assert states == {"COMPLETED": 3 + 3 + 2 * (3 + 3 + 3 + 3) + grown + 1}
    assert flows == [("COMPLETED",)]


def test_nothing_is_left_running(ran):
    listed = subprocess.run(["ps", "axww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert str(ran.folder) not in listed
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            assert str(ran.folder).encode() not in environment.read_bytes()
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue


def test_what_lies_on_disk_is_for_its_owner_only(ran):
    for path in (ran.home / "participants").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (ran.home / "prefect").stat().st_mode & 0o077 == 0
    assert not [*(ran.home / "participants").glob("*/work/*/*")]


def test_mlflow_holds_one_run_with_metrics_inputs_figures_and_a_registered_model(ran):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{ran.home / 'mlflow' / 'mlflow.db'}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "chorus"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert [each.step for each in client.get_metric_history(run.info.run_id, "ndcg_at_10")] == [0, 1]
    assert [each.step for each in client.get_metric_history(run.info.run_id, "reachable/ndcg_at_10")] == [1]
    assert {"bytes_up", "bytes_down", "seconds", "participant/north/ndcg_at_10"} <= run.data.metrics.keys()
    assert run.data.metrics["participant/north/bytes_up"] > 0
    told = "seed", "split.test", "rounds.masks", "gate.least_gain", "model.two_stage.boosting.learning_rate"
    assert {*told, "cleaning.duplicates"} <= run.data.params.keys()
    assert run.data.params["rounds.minimum"] == "3"
    assert len(run.data.tags["mlflow.source.git.commit"]) == 40
    assert "if that server has ended, `chorus ui` shows it\n" in run.data.tags["mlflow.note.content"]
    assert "| all users |" in run.data.tags["mlflow.note.content"]
    assert "| south |  |  |  |" in run.data.tags["mlflow.note.content"]
    assert "participant/south/ndcg_at_10" not in run.data.metrics
    assert len(run.inputs.dataset_inputs) == 3
    kept = ran.home / "mlflow" / "artifacts" / run.info.run_id / "artifacts"
    decides = (kept / "configuration.json").read_bytes()
    assert hashlib.sha256(decides).hexdigest()[:12] == run.data.tags["chorus.fingerprint"]
    assert json.loads(decides)["participants"][2]["discloses"]["rows"] is False
    opened, facts = (
        json.loads((kept / "figures.json").read_text()),
        json.loads((ran.run / "run.json").read_text()),
    )
    assert opened["cuts"] == facts["cuts"]
    assert opened["cohorts"]["1/evaluate"] == ["east", "north", "south"]
    found = [each.path for path in (None, "ranker") for each in client.list_artifacts(run.info.run_id, path)]
    assert {"gain.png", "learning.png", "figures.json", "ranker/shapley.png"} <= {*found}
    handbook = (Path(__file__).parents[1] / "docs" / "operations.md").read_text()
    assert not [path for path in found if path not in handbook]
    assert client.get_model_version_by_alias("small", "champion").run_id == run.info.run_id
    assert not [*ran.home.rglob("*.pkl")]


def test_simulated_participants_give_the_bits_that_the_flow_opened(ran):
    from federation.plan import RoundPlan
    from federation.simulate import simulate
    from tasks import terms
    from tasks.membership import Membership
    from tasks.room import Room

    facts = json.loads((ran.run / "run.json").read_text())
    parts = {}
    for own in sorted((ran.home / "participants").iterdir()):
        room = Room(own, Membership.model_validate_json((own / "membership.json").read_text()))
        version = facts["figures"]["participants"][room.name]["data_version"]
        terms.keep_terms(room, room.prepared(version, tuple(facts["cuts"])), "again", 0)
        parts[room.name] = lambda channel, room=room: terms.add_terms(room, "again", 0, channel)
    opened = {}
    plan = RoundPlan(run="again", number=0, cohort=tuple(parts))
    simulate(parts, plan, on_opened=lambda name, form, total: opened.update({name: form.decode(total.words)}))
    assert set(opened) == {"popularity/1", "popularity/2", "gram/1/0", "gram/2/0"}
    for name, total in opened.items():
        kept = np.load(ran.run / "round-0000" / f"{name}.npy", allow_pickle=False)
        assert np.array_equal(kept, total)
    for own in (ran.home / "participants").iterdir():
        shutil.rmtree(own / "work" / "again")


def test_recommendations_for_a_user(ran, ends):
    path = ran.folder / "small.yaml"
    asked = ("--participant", "north", "--user", _a_user(ran), "--json", ran.folder / "list.json")
    ends("recommend", path, *asked, code=0)
    assert len((listed := json.loads((ran.folder / "list.json").read_text()))["items"]) == 10
    told = (ran.home / "participants" / "north" / "membership.json").read_bytes()
    (away := ran.folder / "away.yaml").write_text(path.read_text() + "data: where-the-run-had-none\n")
    ends("recommend", away, *asked, code=0)
    assert json.loads((ran.folder / "list.json").read_text()) == listed
    assert (ran.home / "participants" / "north" / "membership.json").read_bytes() == told
    assert "'nobody' is not known" in ends(
        "recommend", path, "--participant", "north", "--user", "nobody", code=2
    )
    catalogue = ran.home / "catalogue.txt"
    before = catalogue.read_text()
    catalogue.write_text("a-new-item\n" + before)
    changed = ends("recommend", path, *asked, code=2)
    catalogue.write_text(before)
    assert "has changed since run" in changed


def test_recommendations_for_a_history(ran):
    item = (ran.home / "catalogue.txt").read_text().split()[0]
    asked = ("--history", item, "--top", 3, "--json", ran.folder / "common.json")
    ran.chorus("recommend", ran.folder / "small.yaml", *asked)
    answer = json.loads((ran.folder / "common.json").read_text())
    assert len(answer["items"]) == 3
    assert item not in answer["items"]


def test_runs_are_listed_and_a_state_in_use_is_refused(ran, ends):
    import fcntl

    listed = ends("runs", ran.folder / "small.yaml", code=0)
    assert ran.run.name in listed
    assert "finished" in listed
    with (ran.home / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = ran.chorus("run", ran.folder / "small.yaml", code=3)
    assert "is in use by process" in refused.stderr


def test_bad_input_is_told_without_a_traceback(small, ends):
    done = small.chorus("check", small.consortium("rounds: {minimun: 3}"), code=2)
    assert "rounds.minimun" in done.stderr
    assert "Traceback" not in done.stderr
    path = small.consortium()
    path.write_text(path.read_text().replace("north.tsv.gz", "nowhere.tsv.gz"))
    told = ends("check", path, code=2)
    assert "north" in told
    assert "nowhere.tsv.gz" in told


def test_init_writes_a_file_that_only_lacks_its_data(small, ends, monkeypatch):
    monkeypatch.chdir(small.folder)
    ends("init", code=0)
    assert "no such file" in ends("check", "consortium.yaml", code=2)


def _a_user(ran):
    import pandas as pd

    return str(pd.read_csv(ran.home / "world" / "north.tsv.gz", sep="\t")["customer"].dropna().iloc[0])


def test_the_bytes_of_a_round_are_those_of_all_its_sums(ran):
    for folder in sorted(ran.run.glob("round-????")):
        record = json.loads((folder / "record.json").read_text())
        steps = [
            json.loads(path.read_text()) for path in (*folder.glob("summed-*.json"), *folder.glob("grown-*"))
        ]
        for name, sent in record["bytes_up"].items():
            before = sum(step["bytes_up"][name] for step in steps)
            assert 0 < before < sent  # the rest is what evaluation sends


def test_what_the_ranker_looks_at_is_summed_in_the_test_only(ran):
    records = [json.loads(path.read_text()) for path in sorted(ran.run.glob("round-????/record.json"))]
    assert [bool(record["looks_at"]) for record in records] == [False, True]
