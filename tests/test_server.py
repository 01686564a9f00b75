"""A real Prefect server: it loses no state when it stops, and leaves nothing running behind."""

import os
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import pytest
from prefect_api import ask

from federation.errors import ChorusError
from flows import pages
from mlruns_config.config import TrackingConfig
from mlruns_config.tracking import NoTracking, Tracking
from tasks import server

ROOT = Path(__file__).parents[1]
TASKS = 120
RUN_AND_STOP = f"""
import sys, time
from pathlib import Path
from tasks import flow_runs, server

began = time.monotonic()
with server.prefect_server(Path(sys.argv[1])):
    ready = time.monotonic()
    from prefect import flow, task

    @task
    def double(number: int) -> int:
        return 2 * number

    @flow
    def many() -> int:
        return sum(future.result() for future in double.map(range({TASKS})))

    state = many(return_state=True)
    assert state.result() == {TASKS * (TASKS - 1)}
    done = time.monotonic()
    flow_run_id = state.state_details.flow_run_id
    assert flow_runs.settle(flow_run_id, expected={TASKS})
    settled = time.monotonic()
stopped = time.monotonic()
print(flow_run_id, ready - began, done - ready, settled - done, stopped - settled)
"""


def chorus_python(code, *arguments, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True
    )


def processes_that_name(folder):
    listed = subprocess.run(["ps", "axeww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    return [line[:200] for line in listed.splitlines() if str(folder) in line]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A state folder in which a flow of many tasks has run, its server stopped right after; the run's id."""
    home = tmp_path_factory.mktemp("server")
    done = chorus_python(RUN_AND_STOP, home)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    print("start, flow, settle, stop:", done.stdout)
    assert not processes_that_name(home)
    return home, done.stdout.split()[0]


@pytest.fixture(scope="module")
def again(ran):
    """The folder, the run's id, and the URL of a second server over the same folder."""
    with patch.dict(os.environ), server.prefect_server(ran[0]) as url:
        yield *ran, url


def test_every_state_is_there_after_a_restart(again):
    _, flow_run_id, url = again
    body = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "limit": 200}
    found = ask(url, "/task_runs/filter", body)
    assert [each["state_type"] for each in found] == ["COMPLETED"] * TASKS
    assert ask(url, f"/flow_runs/{flow_run_id}")["state_type"] == "COMPLETED"


def test_its_files_are_private_and_its_settings_stand(again):
    home, _, url = again
    assert stat.S_IMODE((home / "prefect").stat().st_mode) == 0o700
    assert os.environ["PREFECT_API_URL"] == url
    assert os.environ["PREFECT_HOME"] == str(home / "prefect")
    assert os.environ["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


@pytest.mark.parametrize("site", ["http://example.org", "http://localhost:1"])
def test_no_other_origin_reads_it_or_orders_anything(again, site):
    """A browser lets a page read what the answer allows it to, and send anything of a form's kinds."""
    *_, url = again
    looked = urllib.request.Request(f"{url}/health", headers={"Origin": site})
    with urllib.request.urlopen(looked) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] is None
    ordered = urllib.request.Request(f"{url}/flows/", b'{"name": "theirs"}', {"Origin": site})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(ordered)


def test_a_server_that_is_there_is_used_and_outlives_the_block(again, tmp_path):
    *_, url = again
    code = (
        "import sys; from pathlib import Path; from tasks import flow_runs, server\n"
        "with server.prefect_server(Path(sys.argv[1]), sys.argv[2]) as url:\n"
        "    assert url == sys.argv[2]\n"
        "    from prefect import get_client\n"
        "    get_client(sync_client=True).hello().raise_for_status()\n"
        "assert not [*Path(sys.argv[1]).rglob('*.db')]"
    )
    proxies = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": "example.org"}
    done = chorus_python(code, tmp_path / "new", url, **proxies)
    assert (done.returncode, done.stderr) == (0, "")
    assert ask(url, "/health") is True


@pytest.mark.parametrize("given", ["", "example.org", "*", "example.org, 127.0.0.1"])
def test_what_needs_no_proxy_still_needs_none(given, monkeypatch):
    monkeypatch.setenv("no_proxy", given)
    for name, value in server.no_proxy().items():
        monkeypatch.setenv(name, value)
    assert urllib.request.proxy_bypass("127.0.0.1")
    assert urllib.request.proxy_bypass("example.org") or not given
    assert urllib.request.proxy_bypass("elsewhere.org") == (given == "*")


def test_only_what_still_runs_is_marked_crashed(again):
    home, finished, url = again
    flow = ask(url, f"/flow_runs/{finished}")["flow_id"]
    silent = ask(url, "/flow_runs/", {"flow_id": flow, "state": {"type": "RUNNING"}})["id"]
    task = {"flow_run_id": silent, "task_key": "t", "dynamic_key": "0", "state": {"type": "RUNNING"}}
    working = ask(url, "/task_runs/", task)["id"]
    code = (
        "import sys; from pathlib import Path; from tasks import flow_runs, server\n"
        "with server.prefect_server(Path(sys.argv[1]), sys.argv[2]):\n"
        "    flow_runs.mark_crashed([*sys.argv[3:], '00000000-0000-4000-8000-000000000000'], 'gone')"
    )
    done = chorus_python(code, home, url, silent, finished)
    assert done.returncode == 0, done.stderr
    state = ask(url, f"/flow_runs/{silent}")["state"]
    assert (state["type"], state["message"]) == ("CRASHED", "gone")
    assert ask(url, f"/task_runs/{working}")["state_type"] == "CRASHED"
    assert ask(url, f"/flow_runs/{finished}")["state_type"] == "COMPLETED"


def test_settling_gives_up_on_a_run_that_does_not_end(again):
    home, finished, url = again
    flow = ask(url, f"/flow_runs/{finished}")["flow_id"]
    running = ask(url, "/flow_runs/", {"flow_id": flow, "state": {"type": "RUNNING"}})["id"]
    code = (
        "import sys; from pathlib import Path; from uuid import UUID; from tasks import flow_runs, server\n"
        "with server.prefect_server(Path(sys.argv[1]), sys.argv[2]):\n"
        "    assert not flow_runs.settle(UUID(sys.argv[3]), limit_seconds=3)\n"
        f"    assert not flow_runs.settle(UUID(sys.argv[4]), expected={TASKS + 1}, limit_seconds=3)"
    )
    done = chorus_python(code, home, url, running, finished)
    assert done.returncode == 0, done.stderr


def test_a_server_that_ends_at_once_is_told_with_its_log(tmp_path):
    log = tmp_path / "log"
    with (
        server.leashed([sys.executable, "-c", "raise SystemExit('no port')"], log) as process,
        pytest.raises(ChorusError, match=str(log)),
    ):
        server.wait_for(f"http://127.0.0.1:{server.free_port()}/health", process, log)
    assert "no port" in log.read_text()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/api", "prefect:4200/api", "4200", "http://127.0.0.1:x/api"]
)
def test_a_server_that_is_silent_or_none_is_told_before_anything_is_asked_of_it(url, tmp_path):
    with (
        pytest.raises(ChorusError, match=f"the Prefect server at {url} does not answer"),
        server.prefect_server(tmp_path, url),
    ):
        pytest.fail("it went on")


@pytest.mark.parametrize(("code", "alive"), [(401, True), (403, True), (404, False), (502, False)])
def test_a_server_behind_a_proxy_that_wants_a_password_is_not_silent(code, alive, monkeypatch, tmp_path):
    """Prefect's client has it from PREFECT_API_AUTH_STRING or its custom headers; who looks has not."""
    from prefect.client.orchestration import SyncPrefectClient

    monkeypatch.setattr(os, "environ", {**os.environ})

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(code)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{proxy.server_port}/api"
        assert server.answers(url) == alive
        told = f"refuses: {code} .*PREFECT_API_AUTH_STRING" if alive else "does not answer"
        with (
            pytest.raises(ChorusError, match=f"(?s){told}"),
            server.prefect_server(tmp_path, url),
            SyncPrefectClient(url) as client,
        ):
            client.read_work_pool("chorus")
        proxy.shutdown()


def test_a_server_whose_database_starts_again_is_asked_again():
    """It answers 500 meanwhile."""
    codes = [500, 200]

    class Starting(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(codes.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    code = (
        "import sys; from prefect.client.orchestration import SyncPrefectClient\n"
        "with SyncPrefectClient(sys.argv[1]) as client: client.request('GET', '/artifacts')"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), Starting) as starting:
        threading.Thread(target=starting.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{starting.server_port}/api"
        done = chorus_python(code, url, **server.PATIENT, **server.no_proxy())
        starting.shutdown()
    assert (done.returncode, codes) == (0, []), done.stderr


def test_a_store_that_pages_cannot_show_is_told_before_a_server_starts(monkeypatch, tmp_path):
    monkeypatch.setattr(server, "leashed", lambda *_: pytest.fail("it began"))
    shown = pages._mlflow_server(Tracking(TrackingConfig(uri="mlruns"), tmp_path))
    with pytest.raises(NoTracking, match=r"tracking.uri: found mlruns, expected a store"):
        shown.__enter__()


def test_mlflow_s_pages_open_at_the_runs_of_trained_models(tmp_path):
    tracking = Tracking(TrackingConfig(), tmp_path)
    assert pages._runs(tracking) == ""  # nothing has run yet
    number = tracking.experiment_id
    assert pages._runs(tracking) == f"/#/experiments/{number}?workflowType=machine_learning"


@pytest.mark.slow
def test_both_pages_are_shown_until_a_signal_and_end(tmp_path):
    code = (
        "import sys; from pathlib import Path; from flows import pages\n"
        "from mlruns_config.config import TrackingConfig\n"
        "pages.show(Path(sys.argv[1]), TrackingConfig())"
    )
    shown = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    addresses = [shown.stdout.readline().split()[-1] for _ in range(2)]
    for address in addresses:
        request = urllib.request.Request(address, headers={"Accept": "text/html"})
        with urllib.request.urlopen(request, timeout=20) as page:
            assert page.status == 200
    listed = subprocess.run(["ps", "axww", "-o", "args="], capture_output=True, text=True).stdout
    shown.terminate()
    assert str(tmp_path / "mlflow" / "artifacts") in listed
    assert str(tmp_path / "mlflow" / "mlflow.db") not in listed  # the URI of another store has a password
    assert shown.wait(timeout=40) == 0
    shown.stdout.close()
    assert not processes_that_name(tmp_path)
    for address in addresses:
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(address, timeout=2)
