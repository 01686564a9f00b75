"""`chorus deploy` and `chorus serve`: deployments at any Prefect server, or a server and a worker here."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import IO

from federation.errors import BadInput, ChorusError, Refused
from flows.consortium import Consortium, read_consortium
from flows.data import require_data
from flows.schedule import server_url
from flows.tables import console
from tasks import flow_runs, locks, server
from tasks.deployments import POOL

POLL_SECONDS = "5"
"""Between two looks of the worker for runs that are due."""


def deploy(path: Path, data: Path | None, pool: str, image: str | None) -> None:
    """The consortium's deployments at the Prefect server of the configuration or the environment."""
    consortium = read_consortium(path, data)
    url = server_url(consortium)
    if url is None:
        raise BadInput(
            f"{path}: prefect_api_url: found none, and no PREFECT_API_URL in the environment; expected the "
            f"address of a Prefect server, as http://prefect.example:4200/api (on one machine: chorus serve)"
        )
    with server.prefect_server(consortium.home, url):
        _deploy(consortium, path, data, pool, image)
    worker = f"PREFECT_API_URL={url} prefect worker start --pool {shlex.quote(pool)}"
    console.print(f"A worker must be running: {worker}", highlight=False, soft_wrap=True)


def serve(path: Path, data: Path | None, port: int) -> None:
    """The same deployments, with a Prefect server and a worker of this machine, until Ctrl-C or SIGTERM."""
    consortium = read_consortium(path, data)
    require_data(consortium)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with _served(consortium, port) as (url, holds, processes):
        _mark_left_behind(consortium)
        _deploy(consortium, path, data, POOL, None)
        with _worker(consortium.home, holds) as worker:
            console.print(f"Prefect: {url.removesuffix('/api')}\nCtrl-C ends it.", highlight=False)
            _wait(stop, {**processes, "worker": worker}, consortium.home)
        _mark_left_behind(consortium)


@contextmanager
def _served(consortium: Consortium, port: int) -> Iterator[tuple[str, IO[str], dict[str, Popen[bytes]]]]:
    """The API's URL, the file that says so, and the server's process, by its name, where it is ours."""
    url = consortium.prefect_api_url
    if url is None and not server.is_free(port):
        raise BadInput(f"--port: found {port}, which is in use; expected a free one")
    late = int(consortium.alerts.late_seconds)
    os.environ["PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS"] = str(late)
    with ExitStack() as stack:
        here = f"http://127.0.0.1:{port}/api"
        holds = stack.enter_context(locks.serving(consortium.home, url or here))
        if url is None:
            _, process = stack.enter_context(server.started(consortium.home, port, holds))
            yield here, holds, {"server": process}
        else:
            stack.enter_context(server.prefect_server(consortium.home, url))
            yield url, holds, {}


@contextmanager
def _worker(home: Path, holds: IO[str]) -> Iterator[Popen[bytes]]:
    os.environ["PREFECT_WORKER_QUERY_SECONDS"] = POLL_SECONDS
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    with server.leashed(command, home / "prefect" / "worker.log", holds) as process:
        yield process


def _wait(stop: threading.Event, processes: Mapping[str, Popen[bytes]], home: Path) -> None:
    while not stop.wait(1.0):
        for name, process in processes.items():
            if (code := process.poll()) is not None:
                log = home / "prefect" / f"{name}.log"
                raise ChorusError(f"Prefect's {name} ended with exit code {code}; its log is {log}")


def _deploy(consortium: Consortium, path: Path, data: Path | None, pool: str, image: str | None) -> None:
    from flows.deploy import deploy_all, order_of

    for name in deploy_all(consortium, order_of(path, data), pool, image):
        console.print(f"deployed: {name}", highlight=False)


def _mark_left_behind(consortium: Consortium) -> None:
    """Runs that a killed or stopped worker left behind are said to have crashed, and can be retried."""
    from flows.operate import mark_crashed

    if consortium.prefect_api_url is None:
        flow_runs.mark_tagged_crashed(consortium.tags, "the serving process ended")
    try:
        with locks.exclusive(consortium.home):
            mark_crashed(consortium)
    except Refused:
        return  # a command trains here, and does the same when it is alone
