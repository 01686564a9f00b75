"""What tests share: a small consortium that is really run, a tiny one, and a live Prefect server."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

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
    discloses: {{rows: false, users: false, metrics: false}}
model: {{two_stage: {{candidates: 10, learn_from: 1, boosting: {{trees: 20, min_data_in_leaf: 20}}}}}}
cleaning: {{bot_events_per_hour: 100}}
{more}
"""


@dataclass
class Small:
    """A folder in which the consortium `small` is run from the command line."""

    folder: Path
    done: subprocess.CompletedProcess | None = None

    @property
    def home(self):
        return self.folder / "state" / "small"

    @property
    def run(self):
        """The folder of the one run that there is."""
        (found,) = (self.home / "coordinator" / "runs").iterdir()
        return found

    def consortium(self, more=""):
        path = self.folder / "small.yaml"
        path.write_text(WORLD.format(state=self.folder / "state", more=more))
        return path

    def chorus(self, *arguments, code=0, **environment):
        """Run a command, and expect its exit code."""
        done = subprocess.run(
            self._command(arguments), **self._where(environment), capture_output=True, text=True, timeout=500
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def start(self, *arguments):
        """The command on its own, to be stopped or killed."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(self._command(arguments), **self._where({}), **quiet)

    def kill(self, started):
        """SIGKILL, and wait until whatever the process had started has ended with it."""
        started.send_signal(signal.SIGKILL)
        started.wait()
        deadline = time.monotonic() + 30
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not left, f"still running: {left}"

    def processes(self, naming=""):
        """Ids of the processes whose command line or environment names this folder, and `naming`."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                told = (entry / "cmdline").read_bytes()
                if str(self.folder).encode() in told + (entry / "environ").read_bytes():
                    found += [int(entry.name)] if naming.encode() in told else []
        return [pid for pid in found if pid != os.getpid()]

    def _command(self, arguments):
        return [sys.executable, "-m", "flows.cli", *map(str, arguments)]

    def _where(self, environment):
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return {
            "cwd": self.folder,
            "env": {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **environment},
        }


@pytest.fixture
def small(tmp_path):
    """The consortium, not yet run."""
    return Small(tmp_path)


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    """The consortium after one run, and what that printed."""
    small = Small(tmp_path_factory.mktemp("main"))
    small.done = small.chorus("run", small.consortium(), "--json", "figures.json")
    return small


TINY = """
name: {name}
state: {state}
world: {{seed: 3, shops: 3, users: 200, items: 100, days: 200, events: 5000, drift: slow}}
participants:
  - name: east
    events: {{path: east.csv, columns: {{user: user, item: item, value: rating, time: time}}}}
  - name: north
    events:
      path: north.tsv.gz
      columns: {{user: customer, item: product, value: stars, time: bought_at}}
      time_unit: s
  - name: south
    events:
      path: south.parquet
      columns: {{user: user, item: item, value: rating, time: time}}
      time_unit: us
model: {{kind: item_to_item, shares: [0, 1], regularisations: [20]}}
{more}
"""


@pytest.fixture
def tiny(tmp_path):
    """Write the file of a tiny consortium: its name, and further keys; returns its path."""

    def write(name, more=""):
        path = tmp_path / f"{name}.yaml"
        path.write_text(TINY.format(name=name, state=tmp_path / "state", more=more))
        return path

    return write


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory):
    """A live Prefect server for all tests; the environment is as it was before."""
    from tasks import server

    before = dict(os.environ)
    with server.started(tmp_path_factory.mktemp("prefect"), server.free_port()) as (url, _):
        os.environ.clear()
        os.environ.update(before)
        yield url


@pytest.fixture
def api(prefect_url, monkeypatch, tmp_path):
    """The live server as the one in use, by this test and the commands that it starts."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from tasks import server

    for name, value in server.environment(tmp_path, prefect_url).items():
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: prefect_url}):
        yield prefect_url


@pytest.fixture
def client(api):
    """A client of the live server."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def until_paused(client):
    """Wait for the flow run that waits for an answer; returns it."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType

    paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=["PAUSED"])))

    def until_paused():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if found := client.read_flow_runs(flow_run_filter=paused):
                return found[0]
            time.sleep(0.2)
        pytest.fail("no flow run has paused")

    return until_paused


@pytest.fixture
def deploy(api):
    """Deploy a consortium's file, as `chorus deploy` does; returns the deployments' names."""

    def deploy(path, pool="chorus"):
        from flows.consortium import read_consortium
        from flows.deploy import deploy_all, order_of

        return deploy_all(read_consortium(path), order_of(path, None), pool)

    return deploy


@pytest.fixture
def chorus(tmp_path):
    """Run a command of the command line in the test's folder, and expect its exit code."""
    return Small(tmp_path).chorus


@pytest.fixture
def store(tmp_path):
    """A feature store without events."""
    from feature_store.partitions import Store

    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Four participants, a to d, that are processes."""
    from processes import Consortium

    consortium = Consortium(tmp_path_factory.mktemp("four"), ready_seconds=20)
    yield consortium
    consortium.close()


@pytest.fixture
def consortium(tmp_path):
    """Make participants that are processes, a to d or those with the given names, under another policy."""
    from processes import Consortium

    made = []

    def make(**more):
        made.append(Consortium(tmp_path, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()
