"""`chorus ui`: the pages of MLflow and Prefect over a state folder, until Ctrl-C."""

import os
import signal
import sys
import threading
from pathlib import Path

from rich.console import Console

from mlruns_config.tracking import Tracking, TrackingConfig
from tasks import server


def show(home: Path, config: TrackingConfig, prefect_api_url: str | None = None) -> None:
    """Start both servers, say where they are, and wait; both have ended on return."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    tracking, port = Tracking(config, home), server.free_port()
    os.environ.update(server.QUIET)
    mlflow = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    mlflow += ["--workers", "1", "--backend-store-uri", tracking.uri]
    mlflow += ["--default-artifact-root", (tracking.folder / "artifacts").as_uri()]
    tracking.folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    with (
        server.prefect_server(home, prefect_api_url) as prefect,
        server.leashed(mlflow, tracking.folder / "server.log") as process,
    ):
        server.wait_for(f"http://127.0.0.1:{port}/health", process, tracking.folder / "server.log")
        console.print(f"Prefect: {prefect.removesuffix('/api')}\nMLflow:  http://127.0.0.1:{port}")
        console.print("Ctrl-C ends both.")
        stop.wait()
