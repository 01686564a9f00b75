"""What Prefect and MLflow add: the real flow over participants whose work is empty.

    .venv/bin/python benchmarks/overhead.py --participants 10 100

Only the participants' processes are replaced, by ones that answer at once; the flow, its tasks, the
server, the store and the registry are those of `chorus run`.  Stores are created by a run that is not
measured.  A round is the time from one checkpoint to the next; the whole run is the flow without its
imports, the start of the server and the wait until the last events are stored.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ITEMS = 100
BARS = {10: 0.3, 100: 1.5}
RUN_BAR = 3.0
CONSORTIUM = """
name: empty
state: {state}
catalogue: catalogue.txt
participants: [{participants}]
split: {{kind: temporal, cuts: [2020-01-01, 2021-01-01]}}
model: {{kind: popularity, windows: [30]}}
"""


class Idle:
    """A participant that answers at once, and whose term of every sum is zero."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ready(self, plan: Any, job: str, arguments: Any, *, deadline_seconds: float) -> str:
        """A key, for masks that nobody makes, and no digest of what was told."""
        return "0" * 64

    def ask(self, job: str, arguments: Any = None, *, plan: Any = None, relay: Any = None, **_: Any) -> Any:
        """What the job would return that has nothing to do."""
        if job == "gather":
            from federation.relay import Header
            from recommenders.metrics import COUNTS

            words = COUNTS.encode(np.zeros(ITEMS, np.int64))
            name = f"popularity/{plan.number + 1}"
            header = Header(label=plan.label, name=name, form=COUNTS, length=words.size)
            relay.add(self.name, header, [words])
        arms = {arm: {"ndcg_at_10": 0.0, "queries": 1.0} for arm in ("popularity", "alone", "consortium")}
        if job == "prepare":
            return {"version": "0" * 64}
        evaluated = {"overall": arms, "looks_at": {}, "judged": {"compared": 0}}
        return evaluated if job == "evaluate" else {}


@contextmanager
def idle_doors(home: Path, memberships: Sequence[Any]) -> Iterator[Mapping[str, Idle]]:
    yield {each.name: Idle(each.name) for each in memberships}


def consortium(folder: Path, participants: int) -> Any:
    from flows.consortium import read_consortium

    columns = "columns: {user: u, item: i, time: t}"
    each = (f"{{name: p{n:03}, events: {{path: none.csv, {columns}}}}}" for n in range(participants))
    (folder / "catalogue.txt").write_text("".join(f"item-{n}\n" for n in range(ITEMS)))
    path = folder / f"{participants}.yaml"
    path.write_text(CONSORTIUM.format(state=folder / "state", participants=", ".join(each)))
    return read_consortium(path)


def measure(one: Any, run: str) -> dict[str, float]:
    """Seconds of one run, and where they went."""
    from flows.train import train
    from tasks.flow_runs import settle, without_heartbeats
    from tasks.runs import find_run

    began, used, served = time.perf_counter(), time.process_time(), server_seconds()
    with without_heartbeats():
        state = train(consortium=one, run=run, return_state=True)
    took, used = time.perf_counter() - began, time.process_time() - used
    state.result()
    settle(state.state_details.flow_run_id)
    served = server_seconds() - served
    first, second = (record["seconds"] for record in find_run(one.home, run).rounds)
    told = spans(state.state_details.flow_run_id)
    steps = {name: told[f"{name}, round 1"] for name in ("train", "aggregate", "score", "evaluate", "log")}
    return {
        "round": second - first,
        "whole run": took,
        "processor: this process, whole run": used,
        "processor: the server, until all is stored": served,
        **{f"round: {name}": seconds for name, seconds in steps.items()},
        "run: prepare": told["prepare, run"],
        "run: close (figures, model, registry)": told["close, run"],
        "run: begin, end": took - told["all"],
    }


def server_seconds() -> float:
    """Processor seconds of the processes below this one: the server's."""
    from tasks.leash import descendants

    stats = (
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in descendants(os.getpid())
    )
    return sum(int(each[11]) + int(each[12]) for each in stats) / os.sysconf("SC_CLK_TCK")


def spans(flow_run_id: Any) -> dict[str, float]:
    """From the first start to the last end of the task runs of each step, by Prefect's own times."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    chosen, found = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])), list[Any]()
    with get_client(sync_client=True) as client:
        while page := client.read_task_runs(flow_run_filter=chosen, offset=len(found), limit=200):
            found += page
    groups: dict[str, list[Any]] = {"all": found}
    for each in found:
        step = each.name.split(" ")[0].rstrip(",")
        place = "round 1" if each.name.endswith("round 1") else "run"
        groups.setdefault(f"{step}, {place}", []).append(each)
    return {name: _span(runs) for name, runs in groups.items()}


def _span(runs: Sequence[Any]) -> float:
    timed = [each for each in runs if each.start_time and each.end_time]
    seconds = max(each.end_time for each in timed) - min(each.start_time for each in timed)
    return float(seconds.total_seconds())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--participants", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    from tasks import opening, server

    opening.open_doors = idle_doors  # type: ignore[assignment]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", end="")
    print(f", load {os.getloadavg()[0]:.1f}; the fastest of {options.repeat}")
    with tempfile.TemporaryDirectory() as folder, server.prefect_server(Path(folder) / "state" / "empty"):
        for participants in options.participants:
            one = consortium(Path(folder), participants)
            measure(one, f"first-{participants}")
            times = [measure(one, f"run-{participants}-{number}") for number in range(options.repeat)]
            print(f"{participants} participants (load {os.getloadavg()[0]:.1f})")
            for name in times[0]:
                bar = {"round": BARS.get(participants), "whole run": RUN_BAR}.get(name)
                best = min(each[name] for each in times)
                verdict = "" if bar is None else f"  {bar} s {'reached' if best < bar else 'MISSED'}"
                print(f"  {name:40} {best:6.2f} s{verdict}")


if __name__ == "__main__":
    main()
