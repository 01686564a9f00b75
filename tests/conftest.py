"""What tests share: a small consortium that is really run, a tiny one, and a live Prefect server."""

import os
import time

import pytest
from hypothesis import HealthCheck, settings
from small import Small

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # a busy machine is no failure


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
    from tasks import flow_runs, server

    before = dict(os.environ)
    with server.started(tmp_path_factory.mktemp("prefect"), server.free_port()) as (url, _):
        os.environ.clear()
        os.environ.update(before)
        yield url
        flow_runs.send_rest()


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
    """Wait for a flow run that waits for an answer, and did not when the test began; returns it."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType

    paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=["PAUSED"])))
    before = {each.id for each in client.read_flow_runs(flow_run_filter=paused)}

    def until_paused():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for found in client.read_flow_runs(flow_run_filter=paused):
                if found.id not in before:
                    return found
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


@pytest.fixture
def ends(monkeypatch, capsys):
    """Run a command in this process, and expect its exit code; returns what it told."""
    from flows import cli

    def ends(*arguments, code):
        umask = os.umask(0o077)
        monkeypatch.setattr("sys.argv", ["chorus", *map(str, arguments)])
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        os.umask(umask)
        told = "".join(capsys.readouterr())
        assert (ended.value.code or 0) == code, told
        return told

    return ends
