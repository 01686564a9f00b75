"""A Prefect server of our own for as long as it is needed.

Prefect is imported only after its settings stand in the environment; so nothing here imports it early.
"""

import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from federation.errors import ChorusError
from tasks.locks import served

LEASH = Path(__file__).with_name("leash.py")
PATIENT = {"PREFECT_CLIENT_RETRY_EXTRA_CODES": "500"}
"""A server whose database starts again answers 500, which Prefect's client would take for an end."""
QUIET = {
    **PATIENT,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    # Else any web page that a browser of this machine shows could order runs.
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    # Else each state is a transaction of its own, for which the server needs three times the processor.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "50",
}
START_SECONDS = 120.0
ANSWER_SECONDS = 20.0


def environment(home: Path, url: str) -> dict[str, str]:
    """The settings under which this process and the server speak."""
    return {**QUIET, **no_proxy(), "PREFECT_HOME": str(home / "prefect"), "PREFECT_API_URL": url}


def no_proxy() -> dict[str, str]:
    """The setting under which no proxy that others are reached by is asked for this machine."""
    if urllib.request.proxy_bypass("127.0.0.1"):
        return {}
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return {"no_proxy": f"{given},127.0.0.1".removeprefix(",")}


@contextmanager
def prefect_server(home: Path, url: str | None = None) -> Iterator[str]:
    """The API's URL: of the server at `url`, or of one that runs until the block ends.

    The server's database and results lie in `<home>/prefect`; it ends with this process, however
    this process ends.  Where `chorus serve` runs, its server is used.
    Raises `ChorusError` where it does not start, or that at `url` is silent or refuses what it is asked.
    """
    os.environ.update(no_proxy())
    url = url or served(home)
    if url is None:
        with started(home, free_port()) as (url, _):
            yield url
        return
    if not answers(url):
        raise ChorusError(
            f"the Prefect server at {url} does not answer; start it, or correct prefect_api_url or "
            "PREFECT_API_URL: expected its API's address, as http://prefect.example:4200/api"
        )
    # Else Prefect warns that it cannot make its folder there.
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ.update(environment(home, url))
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        yield url
    except PrefectHTTPStatusError as error:
        answer = error.response
        raise ChorusError(
            f"the Prefect server at {url} refuses: {answer.status_code} {answer.text[:300]}; where it wants "
            "user and password, they are expected in PREFECT_API_AUTH_STRING"
        ) from None


@contextmanager
def started(
    home: Path, port: int, holds: IO[str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The API's URL and the process of a server that listens on `port` until the block ends."""
    (home / "prefect").mkdir(parents=True, exist_ok=True, mode=0o700)
    url = f"http://127.0.0.1:{port}/api"
    # Other origins than its own pages', that are web sites in a browser of this machine, may not read it.
    os.environ.update(environment(home, url), PREFECT_SERVER_CORS_ALLOWED_ORIGINS=f"http://localhost:{port}")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with leashed(command, home / "prefect" / "server.log", holds) as process:
        wait_for(f"{url}/health", process, home / "prefect" / "server.log")
        yield url, process


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
        with urllib.request.urlopen(f"{url}/health", timeout=ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)  # whom a proxy before it lets in is Prefect's to say
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # which certificates it trusts is Prefect's to say
    except (OSError, ValueError, http.client.HTTPException):  # the latter two: it is no address
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
