"""Scheduled trainings in a row, on SQLite or PostgreSQL: does memory stay flat, does a database lock?

    .venv/bin/python benchmarks/trainings_in_a_row.py --trainings 50 --participants 10 --database sqlite
    .venv/bin/python benchmarks/trainings_in_a_row.py --database postgresql    # pg_ctl: Debian's package

`chorus serve` runs with a small generated world; a run of the deployment is asked for as soon as the one
before has ended.  Memory is the resident size of the serving process, and of all that it keeps running
between trainings (server, worker), after each training; the first five warm up and do not count.
"""

import argparse
import contextlib
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import server
from tasks.flow_runs import FINAL

WARM = 5
FLAT = 0.10
COLUMNS = "{user: user, item: item, time: time}"


def write(folder: Path, participants: int, events: int) -> Path:
    """A consortium of so many shops whose files hold random events."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    for n in range(participants):
        users, items = rng.integers(0, 60, events), (100 * rng.random(events) ** 2).astype(int)
        at = pd.Timestamp("2025-01-01") + pd.to_timedelta(
            np.sort(rng.integers(0, 200 * 86_400, events)), unit="s"
        )
        table = pd.DataFrame(
            {"user": [f"s{n}-u{u}" for u in users], "item": [f"i{i}" for i in items], "time": at}
        )
        table.to_csv(folder / f"shop-{n:02}.csv", index=False)
    path = folder / "row.yaml"
    lines = ["name: row", f"state: {folder / 'state'}", "participants:"]
    for name in (f"shop-{n:02}" for n in range(participants)):
        lines.append(f"  - {{name: {name}, events: {{path: {name}.csv, columns: {COLUMNS}}}}}")
    lines += [
        "model: {kind: item_to_item, shares: [0, 1], regularisations: [20]}",
        "schedule: {always: true}",
    ]
    path.write_text("\n".join([*lines, ""]))
    return path


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The URL of a database of our own, for as long as the block lasts."""
    data, port = folder / "pg", server.free_port()
    data.mkdir()
    if os.getuid() == 0:
        folder.chmod(0o755)
        shutil.chown(data, "nobody", "nogroup")
    as_postgres("initdb", "-D", data, "-U", "chorus", "-A", "trust")
    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1"
    as_postgres("pg_ctl", "-D", data, "-w", "-l", data / "log", "-o", options, "start")
    try:
        yield f"postgresql+asyncpg://chorus@127.0.0.1:{port}/postgres"
    finally:
        as_postgres("pg_ctl", "-D", data, "-m", "fast", "stop")


def as_postgres(program: str, *arguments: Any) -> None:
    """Run one of PostgreSQL's programs; as nobody, since it refuses root."""
    nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    binaries = Path(shutil.which("pg_ctl") or "pg_ctl").resolve().parent
    command = [*(nobody if os.getuid() == 0 else []), binaries / program, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


@contextlib.contextmanager
def served(path: Path, database: str | None) -> Iterator[tuple[str, int]]:
    """`chorus serve`, ready: the API's URL and the process."""
    port = server.free_port()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if database is not None:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    command = [sys.executable, "-m", "flows.cli", "serve", str(path), "--port", str(port)]
    log = path.with_name("serve.log")
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=path.parent, env=environment, stdout=output, stderr=output)
    try:
        while "Ctrl-C ends it" not in log.read_text():
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/api", process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def train(client: Any) -> tuple[str, float]:
    """Ask for a training and wait for its end: its last state and seconds."""
    began = time.monotonic()
    deployment = client.read_deployment_by_name("train-on-schedule/row")
    run = client.create_flow_run_from_deployment(deployment.id)
    while (found := client.read_flow_run(run.id)).state_type.value not in FINAL:
        time.sleep(0.3)
    return found.state_name, time.monotonic() - began


def resident(pid: int) -> dict[str, float]:
    """Megabytes of the process, and of what it keeps running."""
    below = [each for each in descendants(pid) if "prefect.engine" not in command_of(each)]
    return {"serving process": size(pid), "with server and worker": sum(map(size, [pid, *below]))}


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, children.read_text().split()):
                found += [child, *descendants(child)]
    return found


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return "prefect.engine"


def size(pid: int) -> float:
    with contextlib.suppress(OSError):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024
    return 0.0


def growth(sizes: list[float]) -> float:
    """How much larger the last fifth is than the first fifth, warm-up aside, by medians."""
    kept = sizes[WARM:] if len(sizes) > 2 * WARM else sizes
    part = max(1, len(kept) // 5)
    return statistics.median(kept[-part:]) / statistics.median(kept[:part]) - 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trainings", type=int, default=50)
    parser.add_argument("--participants", type=int, default=10)
    parser.add_argument("--events", type=int, default=500, help="events of each participant")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    if options.database == "postgresql" and shutil.which("pg_ctl") is None:
        raise SystemExit("pg_ctl is not there; install Debian's postgresql")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = write(Path(folder), options.participants, options.events)
        use = stack.enter_context(postgresql(Path(folder))) if options.database == "postgresql" else None
        api, pid = stack.enter_context(served(path, use))
        stack.enter_context(server.prefect_server(Path(folder) / "client", api))
        from prefect.client.orchestration import get_client

        client = stack.enter_context(get_client(sync_client=True))
        ends, sizes = [], []
        for number in range(options.trainings):
            ends.append(train(client))
            sizes.append(resident(pid))
            print(f"{number + 1}: {ends[-1][0]}, {ends[-1][1]:.1f} s, {sizes[-1]}", flush=True)
        logs = "".join(each.read_text(errors="replace") for each in Path(folder).rglob("*.log"))
    report(options, ends, sizes, logs)


def report(options: argparse.Namespace, ends: list, sizes: list, logs: str) -> None:
    import mlflow
    import prefect

    print(
        f"{platform.machine()}, {os.cpu_count()} cores, prefect {prefect.__version__}, "
        f"mlflow {mlflow.__version__}"
    )
    completed = sum(state == "Completed" for state, _ in ends)
    seconds = statistics.median(took for _, took in ends)
    print(
        f"{options.database}, {options.participants} participants: {completed} of {len(ends)} completed",
        end="",
    )
    print(f", {seconds:.1f} s each; 'database is locked' in the logs: {logs.count('database is locked')}")
    grown = {name: growth([each[name] for each in sizes]) for name in sizes[0]}
    for name, share in grown.items():
        print(f"memory, {name}: {sizes[0][name]:.0f} to {sizes[-1][name]:.0f} MB, {share:+.1%}")
    flat = abs(grown["serving process"]) <= FLAT and "database is locked" not in logs
    print("bar:", "reached" if flat and completed == len(ends) else "MISSED")


if __name__ == "__main__":
    main()
