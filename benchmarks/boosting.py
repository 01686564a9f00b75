"""Trees grown through masked sums against LightGBM's own distributed and central training of the same rows.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/boosting.py [--work second] [--repeat 3] [--nvflare PYTHON]

In turn, each in fresh processes, one thread a participant, the same bins, from binned rows to the last tree:
LightGBM's data-parallel learner over its own sockets (a process for each participant), LightGBM central, and
Chorus (participants are threads of one process that take turns on one core, masks on, through the relay).
CPU is user and system time of all processes; the least of the repetitions counts.  Chorus' bytes are of
words, by participant.  NVFlare's histogram XGBoost (three simulated sites, `nvflare_xgboost.py`) is timed
from its first tree to its last.
With --scaling, Chorus alone, among 2 to 1,000 participants that share the same rows.
"""

import argparse
import multiprocessing
import re
import resource
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm
import numpy as np

from federation.channel import Channel, Solo
from federation.plan import RoundPlan
from federation.relay import Relay
from federation.simulate import simulate
from federation.turns import Turns
from recommenders.bins import Bins, agree
from recommenders.boosting import BoostingConfig, Rows, State
from recommenders.growth import begin, binned, grow

WORKS = {"first": (160_000, 20), "second": (800_000, 50)}


class Task(NamedTuple):
    """What all contenders do."""

    rows: int
    columns: int
    participants: int
    trees: int
    config: BoostingConfig
    bins: Bins | None = None


class Took(NamedTuple):
    """Seconds, and bytes by participant."""

    wall: float
    cpu: float
    up: float = 0.0
    down: float = 0.0


def world(task: Task) -> Rows:
    random = np.random.default_rng(0)
    features = random.normal(size=(task.rows, task.columns))
    signal = features[:, 0] * features[:, 1] + np.sin(2 * features[:, 2]) + features[:, 3]
    return Rows(features, (signal + random.normal(size=task.rows) > 0.5) * 1.0)


def part(rows: Rows, rank: int, size: int) -> Rows:
    return Rows(np.ascontiguousarray(rows.features[rank::size]), rows.labels[rank::size])


def agreed(task: Task) -> Task:
    sample = np.ascontiguousarray(world(task).features[:50_000])
    return task._replace(bins=agree(Solo(), sample, [f"f{place}" for place in range(task.columns)]))


def measured(work: Callable[[], object]) -> Took:
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return Took(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def native(task: Task, rank: int, ports: list[int], ready: Any) -> Took:
    """LightGBM on the rows of `rank` among `ports`; alone without ports."""
    parameters: dict[str, Any] = {"objective": "binary", "num_threads": 1, "force_row_wise": True}
    parameters |= {name: getattr(task.config, name) for name in ("num_leaves", "min_data_in_leaf")}
    assert task.bins is not None
    parameters |= task.bins.parameters
    rows = part(world(task), rank, len(ports) or 1)
    data = task.bins.dataset(rows.features, parameters)
    data.set_label(rows.labels)
    if ports:
        machines = ",".join(f"127.0.0.1:{port}" for port in ports)
        parameters |= {"tree_learner": "data", "num_machines": len(ports), "machines": machines}
        parameters |= {"local_listen_port": ports[rank], "pre_partition": True}
    ready.wait()

    def work() -> None:
        booster = lightgbm.Booster(parameters, data)
        for _ in range(task.trees):
            booster.update()

    return measured(work)


def chorus(task: Task, rank: int, ports: list[int], ready: Any) -> Took:
    """All participants as threads of this process."""
    train(task._replace(rows=2000 * task.participants, trees=2))()
    work = train(task)
    ready.wait()
    relays: list[Relay] = []
    took = measured(lambda: relays.append(work()))
    up, down = (max(counted.values()) for counted in (relays[0].bytes_up, relays[0].bytes_down))
    return took._replace(up=up, down=down)


def train(task: Task) -> Callable[[], Relay]:
    """The training of binned rows, ready to be called."""
    assert task.bins is not None
    rows, bins = world(task), task.bins
    names = tuple(f"p{rank:02}" for rank in range(task.participants))
    works: dict[str, Callable[[Channel], State]] = {}
    for rank, name in enumerate(names):
        mine = part(rows, rank, task.participants)
        data = binned(mine, bins, task.config)

        def work(channel: Channel, mine: Rows = mine, data: Any = data) -> State:
            state = begin(channel, mine, bins, task.config)
            return grow(channel, mine, state, task.config, task.trees, data=data)

        works[name] = work
    relay = Relay(RoundPlan(run="benchmark", number=0, cohort=names), changed=Turns())

    def call() -> Relay:
        simulate(works, relay.plan, relay=relay)
        return relay

    return call


def child(answer: Connection, contender: Callable[..., Took], *given: Any) -> None:
    answer.send(contender(*given))


def run(task: Task, contender: Callable[..., Took], processes: int, ports: int) -> Took:
    """`contender` in fresh processes: wall of the slowest, CPU of all."""
    context = multiprocessing.get_context("spawn")
    ready, free = context.Barrier(processes), free_ports(ports)
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    children = [
        context.Process(target=child, args=(pipes[rank][1], contender, task, rank, free, ready))
        for rank in range(processes)
    ]
    for one in children:
        one.start()
    took: list[Took] = [receive.recv() for receive, _ in pipes]
    for one in children:
        one.join()
    return Took(max(t.wall for t in took), sum(t.cpu for t in took), took[0].up, took[0].down)


def nvflare(task: Task, python: str) -> float:
    """Wall seconds of all trees, from the times at which the log tells the first and the last."""
    rows, program = world(task), Path(__file__).with_name("nvflare_xgboost.py")
    with tempfile.TemporaryDirectory() as folder:
        for rank in range(task.participants):
            mine, site = part(rows, rank, task.participants), Path(folder) / f"site-{rank + 1}"
            site.mkdir()
            table = np.column_stack([mine.labels, mine.features])
            np.savetxt(site / "train.csv", table, delimiter=",", fmt="%.6g")
            np.savetxt(site / "valid.csv", table[:200], delimiter=",", fmt="%.6g")
        command = [python, str(program), folder, str(task.participants), str(task.trees)]
        told: dict[int, float] = {}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
            assert run.stdout is not None
            for line in run.stdout:
                if found := re.search(r"\[(\d+)\]\teval-auc", line):
                    told.setdefault(int(found[1]), time.perf_counter())
    return (told[task.trees - 1] - told[0]) * task.trees / (task.trees - 1)


def scaling(task: Task) -> None:
    for participants in (2, 4, 8, 16, 32, 64, 256, 1_000):
        took = run(task._replace(participants=participants), chorus, 1, 0)
        each, row = took.cpu / participants, took.cpu / task.rows / task.trees * 1e9
        told = f"{participants:4} participants  CPU {took.cpu:7.2f} s in all {each:6.2f} s each"
        print(f"{told} {row:6.0f} ns a row and tree {took.up / 1e6:6.1f} MB up each", flush=True)


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", choices=WORKS, default="first")
    parser.add_argument("--participants", type=int, default=3)
    parser.add_argument("--trees", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--nvflare", metavar="PYTHON", help="an interpreter that has nvflare and xgboost")
    parser.add_argument("--scaling", action="store_true", help="only Chorus, 2 to 1,000 participants")
    options = parser.parse_args()
    config = BoostingConfig(objective="binary")
    task = agreed(Task(*WORKS[options.work], options.participants, options.trees, config))
    if options.scaling:
        return scaling(task)
    contenders = {
        "LightGBM, sockets": (native, options.participants, options.participants),
        "LightGBM, central": (native, 1, 0),
        "Chorus, masked sums": (chorus, 1, 0),
    }
    best: dict[str, Took] = {}
    for _ in range(options.repeat):
        for name, contender in contenders.items():
            took = run(task, *contender)
            best[name] = min(best.get(name, took), took, key=lambda one: one.cpu)
    print(f"{task.rows:,} x {task.columns} rows, {task.participants} participants, {task.trees} trees")
    sockets, central = best["LightGBM, sockets"].cpu, best["LightGBM, central"].cpu
    for name, took in best.items():
        ratios = f"{took.cpu / sockets:6.2f} x sockets {took.cpu / central:6.2f} x central"
        megabytes = f"{took.up / 1e6:8.1f} MB up {took.down / 1e6:8.1f} MB down" if took.up else ""
        print(f"{name:22} wall {took.wall:7.2f} s   CPU {took.cpu:7.2f} s {ratios}{megabytes}")
    if options.nvflare:
        wall = nvflare(task, options.nvflare)
        times = wall / best["Chorus, masked sums"].wall
        print(f"{'NVFlare, XGBoost':22} wall {wall:7.2f} s   {times:.1f} x the wall of Chorus")


if __name__ == "__main__":
    main()
