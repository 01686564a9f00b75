"""`chorus ui`: the pages of MLflow and Prefect over a state folder, until Ctrl-C."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.tables import console
from mlruns_config.config import TrackingConfig
from mlruns_config.tracking import Tracking
from tasks import server


def show(home: Path, config: TrackingConfig, prefect_api_url: str | None = None) -> None:
    """Start both servers, say where they are, and wait; both have ended on return.

    A server that `config` or `prefect_api_url` names is only pointed at.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    os.environ.update(server.QUIET)
    with (
        _mlflow_server(Tracking(config, home)) as mlflow,
        server.prefect_server(home, prefect_api_url) as prefect,
    ):
        console.print(f"Prefect: {prefect.removesuffix('/api')}\nMLflow:  {mlflow}", soft_wrap=True)
        console.print("Ctrl-C ends what was started here.")
        stop.wait()


@contextmanager
def _mlflow_server(tracking: Tracking) -> Iterator[str]:
    """The address of MLflow's pages: of the tracking server in use, or of the runs at one for its store.

    Raises `NoTracking` where the store cannot be opened.
    """
    if tracking.uri.startswith(("http://", "https://")):
        yield tracking.uri
        return
    runs = _runs(tracking)  # before it starts: else what is wrong is told in the server's log only
    port, log = server.free_port(), tracking.folder / "server.log"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    os.environ["MLFLOW_BACKEND_STORE_URI"] = tracking.uri  # its password is not for the list of processes
    command += ["--workers", "1", "--default-artifact-root", (tracking.folder / "artifacts").as_uri()]
    tracking.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with server.leashed(command, log) as process:
        server.wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}{runs}"


def _runs(tracking: Tracking) -> str:
    """Where the pages show the runs: MLflow's front, and those without a kind of work, are for agents."""
    found = tracking.client.get_experiment_by_name(tracking.config.experiment)
    return "" if found is None else f"/#/experiments/{found.experiment_id}?workflowType=machine_learning"
