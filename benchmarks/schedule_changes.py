"""Schedule changes against a live server: is any run stray, lost or doubled?

    .venv/bin/python benchmarks/schedule_changes.py --changes 500 --writers 2

A server runs with a deployment whose intervals are between 2 and 10 seconds, and a worker that takes each
run and does nothing.  Writers change the interval through `tasks.timetable`, as adjusters and pins do.
After the last change every change is known with its moment, so which runs were due follows:

- stray: a run that ran at a moment that no schedule in force then, or being written or replaced, names
- lost: a moment that the schedule in force names (none being written within the margin), without a run
- doubled: two runs of the same moment

It uses a tracer in place of the training, so that hundreds of runs take minutes.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextvars import copy_context
from datetime import UTC, datetime
from pathlib import Path

from tasks import server, timetable
from tasks.timetable import Timetable
from tasks.timing import Timing

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = (2, 3, 4, 5, 6, 10)
FUTURE = 86_400.0
FLOW = "tracer"
WORK = "benchmarks.schedule_changes.tracer"


def tracer_flow():
    """The flow that is deployed: it does nothing."""
    from prefect import flow

    @flow(name=FLOW)
    def tracer(order: dict[str, str]) -> None:
        return None

    return tracer


def change_often(
    client_of, deployment_id, home: Path, changes: int, pause: float, seed: int, told: list
) -> None:
    """Change the interval at random, as an adjuster does, and note when each change began and ended."""
    rng = random.Random(seed)
    with client_of() as client:
        for _ in range(changes):
            time.sleep(rng.uniform(0, 2 * pause))
            timing = Timing(seconds=rng.choice(SECONDS), anchor=ANCHOR)
            with timetable.locked(home):
                table = timetable.read(home, FLOW).seen(
                    timetable.found_at(client, deployment_id), datetime.now(UTC)
                )
                began = time.time()
                timetable.apply(client, deployment_id, home, FLOW, table.decide(timing))
                told.append((began, time.time(), timing.seconds, table.pin is not None))


def take_runs(client_of, deployment_id, home: Path, stop: threading.Event) -> None:
    """A worker: each run that is due is begun and completed, or cancelled where the training would be."""
    from prefect.states import Cancelled, Completed, Running

    with client_of() as client:
        while not stop.wait(0.2):
            for run in due(client, deployment_id):
                client.set_flow_run_state(run.id, Running())
                found = timetable.found_at(client, deployment_id)
                strays = timetable.read(home, FLOW).strays(run.expected_start_time, found)
                client.set_flow_run_state(run.id, Cancelled() if strays else Completed())


def due(client, deployment_id):
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType

    return client.read_flow_runs(
        flow_run_filter=filters.FlowRunFilter(
            deployment_id=filters.FlowRunFilterDeploymentId(any_=[deployment_id]),
            state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            next_scheduled_start_time=filters.FlowRunFilterNextScheduledStartTime(before_=datetime.now(UTC)),
        )
    )


def all_runs(client, deployment_id):
    from prefect.client.schemas import filters

    chosen = filters.FlowRunFilter(deployment_id=filters.FlowRunFilterDeploymentId(any_=[deployment_id]))
    found: list = []
    while page := client.read_flow_runs(flow_run_filter=chosen, offset=len(found), limit=200):
        found += page
    return found


def named(moment: float, spans: list) -> bool:
    """Whether a schedule that was in force, or being written or replaced, names the moment."""
    return any(a <= moment <= b and (moment - ANCHOR.timestamp()) % s == 0 for a, b, s in spans)


def judge(runs, told, first: float, begun: float, ended: float, margin: float) -> dict[str, list]:
    """Runs that are stray or doubled, moments that are lost; by the schedules in force at each moment."""
    told = sorted(told)
    intervals = [first, *(seconds for *_, seconds, _ in told)]
    written = [begun, *(after for _, after, *_ in told)]
    sure = [*zip(written, [*(before for before, *_ in told), ended], intervals, strict=True)]
    begins = [begun - FUTURE, *(before for before, *_ in told)]
    perhaps = [*zip(begins, [*(after for _, after, *_ in told), ended + FUTURE], intervals, strict=True)]
    moments = Counter(
        run.expected_start_time.timestamp() for run in runs if run.state_type.value == "COMPLETED"
    )
    stray = [each for each in sorted(moments) if not named(each, perhaps)]
    lost = []
    for start, until, seconds in sure:
        step = -(-(start + margin - ANCHOR.timestamp()) // seconds)
        moment = ANCHOR.timestamp() + step * seconds
        while moment < until - margin:
            if moment not in moments:
                lost.append(moment)
            moment += seconds
    return {"stray": stray, "lost": lost, "doubled": [m for m, count in moments.items() if count > 1]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--changes", type=int, default=500)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--pause", type=float, default=2.0, help="mean seconds between a writer's changes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with server.started(home, server.free_port()):
            report(options, home)


def report(options, home: Path) -> None:
    import prefect
    from prefect.client.orchestration import get_client

    from tasks.deployments import Deployable, deploy, ensure_pool

    def client_of():
        return get_client(sync_client=True)

    first = 30.0
    timing = Timing(seconds=first, anchor=ANCHOR)
    wanted = Deployable(tracer_flow(), "bench", WORK, "", {"order": {}}, (timing,))
    with client_of() as client:
        ensure_pool(client, "bench", None)
        made = deploy(client, wanted, "bench")
        begun = time.time()
        table = Timetable(configured=timing, decided=timing, written=((timing,),))
        timetable.save(home, FLOW, table)
        stop, told = threading.Event(), []
        each = options.changes // options.writers
        writers = [
            threading.Thread(
                target=copy_context().run,
                args=(change_often, client_of, made.id, home, each, options.pause, seed, told),
            )
            for seed in range(options.writers)
        ]
        worker = threading.Thread(target=copy_context().run, args=(take_runs, client_of, made.id, home, stop))
        worker.start()
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
        changed = time.time()
        time.sleep(65)  # at least one more run of the last schedule, and the scheduler's slow loop
        ended = time.time()
        stop.set()
        worker.join()
        runs = all_runs(client, made.id)
    found = judge(runs, told, first, begun, ended - 2, margin=0.05)
    took = [after - before for before, after, *_ in told]
    done = sum(run.state_type.value == "COMPLETED" for run in runs)
    raced = sum(run.state_type.value == "CANCELLED" for run in runs)
    print(f"prefect {prefect.__version__}, Python {sys.version.split()[0]}, SQLite, {os.cpu_count()} cores")
    print(
        f"{len(told)} changes by {options.writers} writers in {changed - begun:.0f} s; {done} runs completed"
    )
    print(f"a change: median {sorted(took)[len(took) // 2]:.3f} s, longest {max(took):.3f} s")
    print(f"made by Prefect's scheduler of a schedule that was gone, and cancelled when they began: {raced}")
    print(f"taken for a hand in the page: {sum(pinned for *_, pinned in told)}")
    for kind, moments in found.items():
        print(
            f"{kind}: {len(moments)}", *(f"{datetime.fromtimestamp(each, UTC):%H:%M:%S}" for each in moments)
        )
    verdict = not any(found.values()) and not any(pinned for *_, pinned in told)
    print("bar of none stray, lost or doubled:", "reached" if verdict else "MISSED")


if __name__ == "__main__":
    main()
