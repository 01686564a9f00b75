"""The main job from the command line: real processes, a real Prefect server, a real MLflow store."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
WORLD = """
name: small
state: {state}
world: {{seed: 3, shops: 3, users: 300, items: 150, days: 200, events: 9000, drift: slow}}
participants:
  - name: east
    events: {{path: east.csv, columns: {{user: user, item: item, value: rating, time: time}}}}
    reachable: truth-east.parquet
  - name: north
    events:
      path: north.tsv.gz
      columns: {{user: customer, item: product, value: stars, time: bought_at}}
      time_unit: s
    reachable: truth-north.parquet
  - name: south
    events:
      path: south.parquet
      columns: {{user: user, item: item, value: rating, time: time}}
      time_unit: us
    reachable: truth-south.parquet
    discloses: {{metrics: false, users: false}}
model: {{shares: [0, 0.1, 1], regularisations: [20, 100]}}
cleaning: {{bot_events_per_hour: 100}}
{more}
"""


def chorus(*arguments, folder, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=400, **options,
    )  # fmt: skip


def consortium(folder, more=""):
    path = folder / "small.yaml"
    path.write_text(WORLD.format(state=folder / "state", more=more))
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder in which the job has run once, and what it printed."""
    folder = tmp_path_factory.mktemp("main")
    done = chorus("run", consortium(folder), "--json", "figures.json", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done


def home(folder):
    return folder / "state" / "small"


def only_run(folder):
    (found,) = (home(folder) / "coordinator" / "runs").iterdir()
    return found


def test_the_table_and_the_json_tell_the_same(ran):
    folder, done = ran
    figures = json.loads((folder / "figures.json").read_text())
    assert set(figures["participants"]) == {"north", "south", "east"}
    together = figures["participants"]["north"]["consortium"]["ndcg_at_10"]
    assert f"{together:.4f}" in done.stdout
    assert (
        0 < figures["overall"]["consortium"]["ndcg_at_10"] < figures["overall"]["reachable"]["ndcg_at_10"] < 1
    )
    assert " ui " in done.stdout


def test_what_a_participant_does_not_disclose_is_empty(ran):
    folder, _ = ran
    south = json.loads((folder / "figures.json").read_text())["participants"]["south"]
    assert south["rows"] is not None
    assert south["users"] is None
    assert south["alone"] is None
    assert south["consortium"] is None


def test_prefect_holds_every_task_run_in_a_final_state(ran):
    folder, _ = ran
    with sqlite3.connect(home(folder) / "prefect" / "prefect.db") as database:
        states = dict(database.execute("select state_type, count(*) from task_run group by 1").fetchall())
        flows = database.execute("select state_type from flow_run").fetchall()
    # 3 prepare, catalogue, cuts; per round 3 train, 3 score, aggregate, evaluate, log; close
    assert states == {"COMPLETED": 3 + 2 + 2 * (3 + 3 + 3) + 1}
    assert flows == [("COMPLETED",)]


def test_nothing_is_left_running(ran):
    folder, _ = ran
    listed = subprocess.run(["ps", "axww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in listed
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            assert str(folder).encode() not in environment.read_bytes()
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue


def test_what_lies_on_disk_is_for_its_owner_only(ran):
    folder, _ = ran
    for path in (home(folder) / "participants").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (home(folder) / "prefect").stat().st_mode & 0o077 == 0
    assert not [*(home(folder) / "participants").glob("*/work/*/*")]


def test_mlflow_holds_one_run_with_metrics_inputs_figures_and_a_registered_model(ran):
    from mlflow import MlflowClient

    folder, _ = ran
    client = MlflowClient(f"sqlite:///{home(folder) / 'mlflow' / 'mlflow.db'}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "chorus"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert [each.step for each in client.get_metric_history(run.info.run_id, "ndcg_at_10")] == [0, 1]
    assert "participant/north/ndcg_at_10" in run.data.metrics
    assert "participant/south/ndcg_at_10" not in run.data.metrics
    assert len(run.inputs.dataset_inputs) == 3
    assert {"gain.png", "learning.png", "figures.json"} <= {
        each.path for each in client.list_artifacts(run.info.run_id)
    }
    assert client.get_model_version_by_alias("small", "champion").run_id == run.info.run_id
    assert not [*home(folder).rglob("*.pkl")]


def test_simulated_participants_give_the_bits_that_the_flow_opened(ran):
    from federation.plan import RoundPlan
    from federation.simulate import simulate
    from tasks import personal
    from tasks.membership import Membership
    from tasks.room import Room

    folder, _ = ran
    facts = json.loads((only_run(folder) / "run.json").read_text())
    parts = {}
    for own in sorted((home(folder) / "participants").iterdir()):
        room = Room(own, Membership.model_validate_json((own / "membership.json").read_text()))
        version = facts["figures"]["participants"][room.name]["data_version"]
        personal.keep_terms(room, room.prepared(version, tuple(facts["cuts"])), "again", 0)
        parts[room.name] = lambda channel, room=room: personal.add_terms(room, "again", 0, channel)
    opened = {}
    plan = RoundPlan(run="again", number=0, cohort=tuple(parts))
    simulate(parts, plan, on_opened=lambda name, form, total: opened.update({name: form.decode(total.words)}))
    assert set(opened) == {"popularity", "gram/0"}
    for name, total in opened.items():
        kept = np.load(only_run(folder) / "round-0000" / f"{name}.npy", allow_pickle=False)
        assert np.array_equal(kept, total)
    for own in (home(folder) / "participants").iterdir():
        shutil.rmtree(own / "work" / "again")


def test_recommendations_for_a_user_and_for_a_history(ran):
    folder, _ = ran
    path = folder / "small.yaml"
    asked = ("--participant", "north", "--user", _a_user(folder), "--json", "list.json")
    done = chorus("recommend", path, *asked, folder=folder)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((folder / "list.json").read_text())["items"]) == 10
    item = (home(folder) / "catalogue.txt").read_text().split()[0]
    done = chorus("recommend", path, "--history", item, "--top", 3, "--json", "common.json", folder=folder)
    assert done.returncode == 0, done.stderr
    answer = json.loads((folder / "common.json").read_text())
    assert len(answer["items"]) == 3
    assert item not in answer["items"]
    done = chorus("recommend", path, "--participant", "north", "--user", "nobody", folder=folder)
    assert done.returncode == 2
    assert "'nobody' is not known" in done.stderr


def test_runs_are_listed_and_a_state_in_use_is_refused(ran):
    import fcntl

    folder, _ = ran
    listed = chorus("runs", folder / "small.yaml", folder=folder)
    assert only_run(folder).name in listed.stdout
    assert "finished" in listed.stdout
    with (home(folder) / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = chorus("run", folder / "small.yaml", folder=folder)
    assert refused.returncode == 3
    assert "is in use by process" in refused.stderr


def test_bad_input_is_told_without_a_traceback(tmp_path):
    path = consortium(tmp_path, "rounds: {minimun: 3}")
    done = chorus("check", path, folder=tmp_path)
    assert done.returncode == 2
    assert "rounds.minimun" in done.stderr
    assert "Traceback" not in done.stderr
    path = consortium(tmp_path)
    path.write_text(path.read_text().replace("north.tsv.gz", "nowhere.tsv.gz"))
    done = chorus("check", path, folder=tmp_path)
    assert done.returncode == 2
    assert "north" in done.stderr
    assert "nowhere.tsv.gz" in done.stderr


def test_init_writes_a_file_that_only_lacks_its_data(tmp_path):
    assert chorus("init", folder=tmp_path).returncode == 0
    done = chorus("check", "consortium.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert "no such file" in done.stderr


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_same_bits(ran, tmp_path):
    folder, _ = ran
    path = consortium(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", str(path)], cwd=tmp_path, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    runs = home(tmp_path) / "coordinator" / "runs"
    deadline = time.monotonic() + 200
    while not [*runs.glob("*/round-0001.under-way")] and time.monotonic() < deadline:
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    _all_end(tmp_path)
    run = only_run(tmp_path).name
    done = chorus("resume", run, path, "--json", "figures.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    ours, theirs = (json.loads((each / "figures.json").read_text()) for each in (tmp_path, folder))
    assert ours["overall"] == theirs["overall"]
    for name in ("round-0000/gram/0.npy", "round-0001/gram/0.npy", "round-0001/popularity.npy"):
        assert (only_run(tmp_path) / name).read_bytes() == (only_run(folder) / name).read_bytes()
    with sqlite3.connect(home(tmp_path) / "prefect" / "prefect.db") as database:
        assert sorted(database.execute("select state_type from flow_run").fetchall()) == [
            ("COMPLETED",),
            ("CRASHED",),
        ]


def _all_end(folder):
    """Whatever the killed process had started ends within seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        listed = subprocess.run(
            ["ps", "axeww", "-o", "args="], capture_output=True, text=True, check=True
        ).stdout
        if str(folder) not in listed:
            return
        time.sleep(0.2)
    pytest.fail("still running: " + next(line for line in listed.splitlines() if str(folder) in line)[:200])


def _a_user(folder):
    import pandas as pd

    return str(pd.read_csv(home(folder) / "world" / "north.tsv.gz", sep="\t")["customer"].dropna().iloc[0])
