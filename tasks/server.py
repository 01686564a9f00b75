"""A Prefect server of our own for as long as it is needed, and what must be true before it stops.

Prefect is imported only after its settings stand in the environment; so nothing here imports it early.
"""

import fcntl
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from federation.errors import ChorusError, Refused

LEASH = Path(__file__).with_name("leash.py")
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
START_SECONDS = 120.0
LEASH_SECONDS = 20.0
"""How long what a killed process had started may take to end."""
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@contextmanager
def exclusive(home: Path, patience_seconds: float = 0.0) -> Iterator[None]:
    """One process at a time on a state folder; raises `Refused`, naming the other, where there is one.

    It waits for the other for `patience_seconds` before.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "lock").open("a+") as lock:
        if not _lock(lock, patience_seconds):
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise Refused(f"{home} is in use by process {holder}; wait for it, or use another state folder")
        _note(lock, str(os.getpid()))
        yield


def _lock(file: IO[str], patience_seconds: float) -> bool:
    """Whether the lock was free, or became so in time."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.2)


def _note(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def environment(home: Path, url: str) -> dict[str, str]:
    """The settings under which this process and the server speak."""
    return {**QUIET, "PREFECT_HOME": str(home / "prefect"), "PREFECT_API_URL": url}


@contextmanager
def prefect_server(home: Path, url: str | None = None) -> Iterator[str]:
    """The API's URL: of the server at `url`, or of one that runs until the block ends.

    The server's database and results lie in `<home>/prefect`; it ends with this process, however
    this process ends.  Where `chorus serve` runs, its server is used.
    Raises `ChorusError` where it does not start.
    """
    url = url or served(home)
    if url is None:
        with started(home, free_port()) as (url, _):
            yield url
        return
    os.environ.update(environment(home, url))
    yield url


@contextmanager
def started(
    home: Path, port: int, holds: IO[str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The API's URL and the process of a server that listens on `port` until the block ends."""
    (home / "prefect").mkdir(parents=True, exist_ok=True, mode=0o700)
    url = f"http://127.0.0.1:{port}/api"
    os.environ.update(environment(home, url))
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with leashed(command, home / "prefect" / "server.log", holds) as process:
        wait_for(f"{url}/health", process, home / "prefect" / "server.log")
        yield url, process


@contextmanager
def serving(home: Path, url: str) -> Iterator[IO[str]]:
    """Whoever needs a server on this state folder uses the one at `url` until the block ends.

    What the block starts should hold the file that it gets, so that the next one waits until all has ended.
    Raises `Refused` where another process serves.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "serving").open("a+") as file:
        if not _lock(file, LEASH_SECONDS):
            raise Refused(f"{home} is served already, at {served(home)}; stop that, or use its pages")
        _note(file, url)
        yield file
        file.truncate(0)


def served(home: Path) -> str | None:
    """The URL of the server that `chorus serve` runs on this state folder; none where it does not run."""
    path = home / "serving"
    if not path.is_file():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or None
    return None


@contextmanager
def leashed(
    command: Sequence[str], log: Path, holds: IO[str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`command` under a leash that this process holds; it has ended when the block has.

    The lock on the file `holds` stays taken until the leash has ended, too.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(LEASH), *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[holds.fileno()] if holds else [],
        )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until `url` answers; raises `ChorusError`, naming the log, where the process ends or time is up."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise ChorusError(f"the server at {url} did not start; its log is {log}")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Whether a Prefect server is alive at the API's `url`."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def is_free(port: int) -> bool:
    """Whether nobody listens on the port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def settle(flow_run_id: UUID | None, expected: int = 0, limit_seconds: float = 60.0) -> bool:
    """Wait until the server has stored a final state of every task run of the flow run and its subflows.

    States travel as events and are written seconds later; a server that is stopped before loses them.
    `expected` is how many task runs there are at least; without it, a count that stands still for
    two seconds will do.  Returns whether all, and the flow run, were final within the limit.
    """
    from prefect.client.orchestration import get_client
    from prefect.events.worker import EventsWorker

    if flow_run_id is None:
        return True
    deadline, counts = time.monotonic() + limit_seconds, [-1]
    EventsWorker.drain_all(timeout=limit_seconds, at_exit=False)  # what this process has not sent yet
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            family = [client.read_flow_run(flow_run_id), *_children(client, flow_run_id)]
            found = [each for flow_run in family for each in _task_runs(client, flow_run.id)]
            ended = all(each.state is not None and each.state.is_final() for each in family)
            counts.append(len(found))
            stands = len(counts) > 8 and len(set(counts[-8:])) == 1 and len(found) >= expected
            if stands and ended and not _open(found):
                return True
            time.sleep(0.25)
    return False


def _children(client: Any, flow_run_id: UUID) -> list[Any]:
    """The flow's subflows: runs of their own, which its own task runs do not list."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    chosen = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run_id]))
    return list(client.read_flow_runs(flow_run_filter=chosen))


def _task_runs(client: Any, flow_run_id: UUID) -> list[Any]:
    """All task runs of the flow run that the server knows, page by page."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    chosen, found = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])), list[Any]()
    while page := client.read_task_runs(flow_run_filter=chosen, offset=len(found), limit=200):
        found += page
    return found


def _open(task_runs: Sequence[Any]) -> list[Any]:
    """Those of the newest attempt without a final state; a dead attempt's say Running for ever."""
    newest = max((each.flow_run_run_count for each in task_runs), default=0)
    return [
        each
        for each in task_runs
        if each.flow_run_run_count == newest
        and (each.state_type is None or each.state_type.value not in FINAL)
    ]


def unfinished(home: Path) -> list[str]:
    """Flow runs over the state folder `home` that a command began and that have no final state."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterState
    from prefect.client.schemas.filters import FlowRunFilterStateType as OfType
    from prefect.client.schemas.objects import StateType

    chosen = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(is_null_=True),
        state=FlowRunFilterState(type=OfType(any_=[StateType.PENDING, StateType.RUNNING])),
    )
    with get_client(sync_client=True) as client:
        found, page = list[Any](), list[Any]()
        while page := client.read_flow_runs(flow_run_filter=chosen, offset=len(found), limit=200):
            found += page
    return [str(each.id) for each in found if _over(each.parameters.get("consortium"), home)]


def _over(consortium: Any, home: Path) -> bool:
    told = consortium if isinstance(consortium, dict) else {}
    return Path(str(told.get("state"))) / str(told.get("name")) == home


def mark_tagged_crashed(tags: Sequence[str], message: str) -> None:
    """All flow runs with these tags that say that they run, or are about to, are said to have crashed."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType

    under_way = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    chosen = filters.FlowRunFilter(
        tags=filters.FlowRunFilterTags(all_=[*tags]),
        state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=under_way)),
    )
    with get_client(sync_client=True) as client:
        found = [str(each.id) for each in client.read_flow_runs(flow_run_filter=chosen)]
    mark_crashed(found, message)


def mark_crashed(flow_run_ids: Sequence[str], message: str) -> None:
    """Flow runs whose process is gone, but that still say that they run, are said to have crashed."""
    if not flow_run_ids:
        return
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    with get_client(sync_client=True) as client:
        for flow_run_id in flow_run_ids:
            try:
                state = client.read_flow_run(UUID(flow_run_id)).state
            except ObjectNotFound:
                continue
            if state is None or not state.is_final():
                client.set_flow_run_state(UUID(flow_run_id), Crashed(message=message), force=True)
