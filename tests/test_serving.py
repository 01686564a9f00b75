"""Trainings on a schedule, with real servers, workers and kills; each test here trains several times."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from prefect_api import ask

from flows.consortium import read_consortium
from flows.data import generate_world
from tasks import server
from tasks.flow_runs import FINAL
from tasks.leash import descendants

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
PATIENCE = 300
"""Seconds for what nothing promises to be quick on a busy machine."""


def environment(url=None):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**inherited, "PYTHONPATH": str(ROOT), **({"PREFECT_API_URL": url} if url else {})}


def chorus(*arguments, folder, url=None, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, arguments)],
        cwd=folder, env=environment(url), capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


@contextlib.contextmanager
def serving(folder, port):
    """`chorus serve`, when it is up; it is stopped with the block, if it still runs."""
    command = [sys.executable, "-m", "flows.cli", "serve", str(folder / "tiny.yaml"), "--port", str(port)]
    with (folder / "serve.log").open("a") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log)
    try:
        until(lambda: "Ctrl-C ends it" in (folder / "serve.log").read_text().split("BEGIN")[-1])
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        with (folder / "serve.log").open("a") as log:
            log.write("BEGIN")


def until(true, seconds=PATIENCE):
    """Wait for something to become true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := true():
                return found
        time.sleep(0.2)
    pytest.fail(f"not within {seconds} s")


def flow_runs(url, *states, flow="train-on-schedule"):
    body = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 200}
    found = ask(url, "/flow_runs/filter", body)
    return [each for each in found if not states or each["state_type"] in states]


def ordered(url):
    """Order a training; returns the flow run's id."""
    deployment = ask(url, "/deployments/name/train-on-schedule/tiny")
    return ask(url, f"/deployments/{deployment['id']}/create_flow_run", {})["id"]


def run_folders(folder):
    return sorted((folder / "state" / "tiny" / "coordinator" / "runs").glob("*"))


def facts(folder):
    return json.loads((folder / "run.json").read_text())


def _running(folder):
    return [each for each in run_folders(folder) if facts(each)["status"] == "running"]


def mlflow_client(folder):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{folder / 'state' / 'tiny' / 'mlflow' / 'mlflow.db'}")


def trainings(client):
    (experiment,) = [each for each in client.search_experiments() if each.name == "chorus"]
    return client.search_runs([experiment.experiment_id], "params.consortium = 'tiny'")


def told_once(client):
    """The one training that MLflow has, after each of its two rounds was told once."""
    (run,) = trainings(client)
    history = client.get_metric_history(run.info.run_id, "ndcg_at_10")
    assert [each.step for each in history] == [0, 1]
    return run


def nothing_runs(folder):
    listed = subprocess.run(["ps", "axeww", "-o", "args="], capture_output=True, text=True, check=True)
    return str(folder) not in listed.stdout


def test_a_served_consortium_trains_on_schedule_and_survives_a_kill(tmp_path, tiny):
    tiny("tiny", "schedule: {cron: '* * * * *', always: true}")
    port = server.free_port()
    url = f"http://127.0.0.1:{port}/api"
    with serving(tmp_path, port) as process:
        until(lambda: flow_runs(url))  # the first that a wrong version of SQLAlchemy would hide
        (first, *_) = until(lambda: flow_runs(url, "COMPLETED"))
        assert first["auto_scheduled"]
        assert first["parameters"]["order"]["consortium"] == str(tmp_path / "tiny.yaml")
        assert process.poll() is None
        chorus("schedule", "pin", "1d", tmp_path / "tiny.yaml", folder=tmp_path)
        until(lambda: not _running(tmp_path))
        ordered(url)
        until(lambda: _running(tmp_path))
        process.kill()
        process.wait()
        until(lambda: nothing_runs(tmp_path), 30)
    with serving(tmp_path, port):
        deployment = ask(url, "/deployments/name/train-on-schedule/tiny")
        assert [each["schedule"]["interval"] for each in deployment["schedules"]] == [86_400]
        (killed,) = flow_runs(url, "CRASHED")
        assert killed["state"]["message"] == "the serving process ended"
        (folder,) = [each for each in run_folders(tmp_path) if facts(each)["flow_run_id"] == killed["id"]]
        assert facts(folder)["status"] in ("failed", "crashed")  # whether it still could say so
        done = chorus("rerun", folder.name, tmp_path / "tiny.yaml", folder=tmp_path)
        assert folder.name in done.stdout
        again = ask(url, f"/flow_runs/{killed['id']}")
        assert (again["state_type"], again["run_count"]) == ("COMPLETED", 2)
        assert facts(folder)["status"] == "finished"
    assert nothing_runs(tmp_path)
    client = mlflow_client(tmp_path)
    names = [run.data.tags["chorus.run"] for run in trainings(client)]
    assert sorted(names) == sorted({each.name for each in run_folders(tmp_path)})
    champion = client.get_model_version_by_alias("tiny", "champion")
    assert champion.run_id in {run.info.run_id for run in trainings(client)}


@contextlib.contextmanager
def worker(folder, url):
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "nights", "--type", "process"]
    own = {"PREFECT_HOME": str(folder / "worker"), "PREFECT_WORKER_QUERY_SECONDS": "5"}
    with (
        patch.dict(os.environ, environment(url) | own),
        server.leashed(command, folder / "worker.log") as process,
    ):
        yield process


@pytest.fixture
def far(tmp_path):
    """The URL of a Prefect server that is not the consortium's own."""
    with patch.dict(os.environ), server.started(tmp_path / "far", server.free_port()) as (url, _):
        yield url


def test_a_deployed_training_whose_processes_are_killed_is_found_and_retried(tmp_path, tiny, far):
    path = tiny("tiny")
    chorus("deploy", path, "--pool", "nights", folder=tmp_path, url=far)
    asked = ordered(far)
    with worker(tmp_path, far) as leash:
        until(lambda: [*(tmp_path / "state").glob("tiny/coordinator/runs/*/round-0000/record.json")])
        for pid in descendants(leash.pid):  # the worker first: asked to end, it could still tell the server
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    assert nothing_runs(tmp_path / "state")
    assert ask(far, f"/flow_runs/{asked}")["state_type"] == "RUNNING"
    until(lambda: ask(far, f"/flow_runs/{asked}")["state_type"] == "CRASHED", 120)
    print(f"found after {time.monotonic() - killed:.0f} s")
    assert "no heartbeat" in ask(far, f"/flow_runs/{asked}")["state"]["message"]
    first = (run_folders(tmp_path)[0] / "round-0000" / "record.json").read_bytes()
    with worker(tmp_path, far):  # what the page's button sends
        retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
        ask(far, f"/flow_runs/{asked}/set_state", retry)
        until(lambda: ask(far, f"/flow_runs/{asked}")["state_type"] == "COMPLETED")
    (folder,) = run_folders(tmp_path)
    assert (folder / "round-0000" / "record.json").read_bytes() == first
    run = told_once(mlflow_client(tmp_path))
    assert run.data.tags["prefect.flow_run_id"] == asked
    assert f"/flow-run/{asked}" in run.data.tags["mlflow.note.content"]
    artifacts = ask(far, "/artifacts/filter", {"flow_runs": {"id": {"any_": [asked]}}})
    assert {each["key"] for each in artifacts} == {"participants", "progress", "mlflow", "gate"}
    assert run.info.run_id in next(each for each in artifacts if each["key"] == "mlflow")["data"]


def test_one_training_at_a_time_and_a_participant_with_bad_files_is_left_out(tmp_path, tiny, far):
    path = tiny("tiny", "rounds: {minimum: 2, agreed_to_two: true}")
    chorus("deploy", path, "--pool", "nights", folder=tmp_path, url=far)
    consortium = read_consortium(path)
    generate_world(consortium)
    (consortium.data / "north.tsv.gz").write_bytes(b"not gzip")
    asked = [ordered(far) for _ in range(3)]
    with worker(tmp_path, far):
        ends = until(lambda: all_final(far, asked))
    assert sorted(each["state_name"] for each in ends) == ["Cancelled", "Cancelled", "Degraded"]
    (trained,) = [each for each in ends if each["state_name"] == "Degraded"]
    assert "Without north: " in trained["state"]["message"]
    assert "concurrency limit" in next(each for each in ends if each != trained)["state"]["message"]
    (folder,) = run_folders(tmp_path)
    assert facts(folder)["missing"].keys() == {"north"}


@pytest.fixture
def database(monkeypatch):
    """A PostgreSQL that Prefect's server will use; restarts it, where called, as after a power cut."""
    if shutil.which("pg_ctl") is None:
        pytest.skip("pg_ctl is not there: Debian's postgresql")
    from trainings_in_a_row import as_postgres, postgresql

    with tempfile.TemporaryDirectory() as folder, postgresql(Path(folder)) as url:
        monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", url)
        data = Path(folder) / "pg"
        yield lambda: as_postgres(
            "pg_ctl", "-D", data, "-w", "-l", data / "log", "-m", "immediate", "restart"
        )


@pytest.mark.parametrize("dies", ["server", "database"])
def test_a_server_or_database_that_dies_in_the_middle_is_waited_for(dies, tmp_path, tiny, request):
    restart = request.getfixturevalue("database") if dies == "database" else None
    path, port = tiny("tiny"), server.free_port()
    with patch.dict(os.environ), contextlib.ExitStack() as servers:
        url, process = servers.enter_context(server.started(tmp_path / "far", port))
        chorus("deploy", path, "--pool", "nights", folder=tmp_path, url=url)
        asked = ordered(url)
        with worker(tmp_path, url):
            until(lambda: [*(tmp_path / "state").glob("tiny/coordinator/runs/*/run.json")])
            if restart is not None:
                restart()
            else:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                servers.enter_context(server.started(tmp_path / "far", port))
            until(lambda: ask(url, f"/flow_runs/{asked}")["state_type"] == "COMPLETED")
    assert (tmp_path / "far" / "prefect" / "prefect.db").exists() == (dies == "server")
    run = told_once(mlflow_client(tmp_path))
    (folder,) = run_folders(tmp_path)
    assert facts(folder)["status"] == "finished"
    versions = mlflow_client(tmp_path).search_model_versions("name = 'tiny'")
    assert [each.run_id for each in versions] == [run.info.run_id]


def all_final(url, ids):
    states = [ask(url, f"/flow_runs/{each}") for each in ids]
    return states if all(each["state_type"] in FINAL for each in states) else None
