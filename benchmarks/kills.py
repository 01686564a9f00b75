"""The serving process killed at random during scheduled trainings, and started again: is anything torn?

    .venv/bin/python benchmarks/kills.py --kills 100

Each time a training is asked for, the process gets SIGKILL a random while after it has begun (at times
before), within what the last ones took, and `chorus serve` is started anew.  The champion must load and
answer each time, and at the end:

- each training is applied once or not at all: its MLflow run has at most one model version, a finished
  training exactly one, and no metric has a step twice
- the history has no gap and no double: decisions are numbered 1, 2, 3, ...; every flow run is in a final
  state, and every run's folder says how it ended
"""

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from trainings_in_a_row import ask, served, train, write

from mlruns_config.config import TrackingConfig
from mlruns_config.tracking import Tracking
from tasks.decisions import decisions
from tasks.flow_runs import FINAL

EARLY = 0.1
"""The share of kills that come before the training has begun."""
LONGEST = 1.1
"""Of the seconds that the last trainings took, within which the other kills come."""


def kill_once(path: Path, home: Path, rng: random.Random) -> tuple[float, str]:
    """Serve, ask for a training, kill; returns the seconds that it was given, and how far it had come."""
    known = {*home.glob("coordinator/runs/*")}
    given, early = rng.uniform(0.0, LONGEST * usual(home)), rng.random() < EARLY
    with served(path, None) as (api, pid):
        deployment = ask(f"{api}/deployments/name/train-on-schedule/row")["id"]
        ask(f"{api}/deployments/{deployment}/create_flow_run", {})
        while not early and {each.parent for each in home.glob("coordinator/runs/*/run.json")} <= known:
            time.sleep(0.1)
        time.sleep(given)
        os.kill(pid, signal.SIGKILL)
    far = [how_far(each) for each in {*home.glob("coordinator/runs/*")} - known]
    return given, ", ".join(far) or "not begun"


def usual(home: Path) -> float:
    """The median of seconds of the last three trainings that ended well."""
    facts = [json.loads(each.read_text()) for each in home.glob("coordinator/runs/*/run.json")]
    ended = sorted((each["created_at"], each["seconds"]) for each in facts if each["status"] == "finished")
    return statistics.median(seconds for _, seconds in ended[-3:])


def how_far(folder: Path) -> str:
    facts = json.loads((folder / "run.json").read_text()) if (folder / "run.json").is_file() else {}
    if facts.get("status") == "finished":
        return "finished"
    rounds = len([*folder.glob("round-????/record.json")])
    return f"in round {rounds}" if "cuts" in facts else "preparing"


def champion_answers(tracking: Tracking) -> bool:
    """Whether the champion, where there is one, loads and recommends."""
    if not tracking.client.search_model_versions("name = 'row'"):
        return True
    return len(tracking.champion("row")([{"history": ["i1"], "k": 3}])[0].items) == 3


def torn(home: Path, tracking: Tracking, api: str) -> list[str]:
    """What is not as it must be, in words."""
    found = []
    versions = Counter(each.run_id for each in tracking.client.search_model_versions("name = 'row'"))
    facts = [json.loads(each.read_text()) for each in home.glob("coordinator/runs/*/run.json")]
    for each in facts:
        count = versions[each["mlflow_run_id"]]
        if count > 1 or (each["status"] == "finished") > count:
            found.append(f"{each['run']}: {each['status']}, {count} versions")
        if each["status"] == "running":
            found.append(f"{each['run']}: says that it runs")
        found += doubled(tracking, each["mlflow_run_id"])
    numbers = [each.number for each in decisions(home)]
    if numbers != [*range(1, len(numbers) + 1)]:
        found.append(f"decisions: {numbers}")
    body = {"flows": {"name": {"any_": ["train-on-schedule"]}}, "limit": 200}
    for run in ask(f"{api}/flow_runs/filter", body):
        if run["state_type"] not in (*FINAL, "SCHEDULED"):
            found.append(f"flow run {run['name']}: {run['state_name']}")
    return found


def doubled(tracking: Tracking, run_id: str) -> list[str]:
    steps = Counter(
        (name, each.step)
        for name in tracking.client.get_run(run_id).data.metrics
        for each in tracking.client.get_metric_history(run_id, name)
    )
    return [
        f"{run_id}: {name} at step {step}, {count} times"
        for (name, step), count in steps.items()
        if count > 1
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=600.0, help="no kill begins after so many minutes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), participants=3, events=300)
        path.write_text(path.read_text().replace("{always", "{adjust_hours: 0.01, always"))
        home, silent = Path(folder) / "state" / "row", 0
        tracking = Tracking(TrackingConfig(), home)
        with served(path, None) as (api, _):
            print("a whole training: {} in {:.1f} s".format(*train(api)), flush=True)
        far, until = Counter(), time.monotonic() + 60 * options.minutes
        for number in range(options.kills):
            if time.monotonic() > until:
                break
            given, came = kill_once(path, home, rng)
            far[came] += 1
            answers = not (home / "mlflow" / "mlflow.db").exists() or champion_answers(tracking)
            silent += not answers
            print(
                f"{number + 1}: killed after {given:.1f} s, {came}; "
                f"champion {'answers' if answers else 'SILENT'}",
                flush=True,
            )
        with served(path, None) as (api, _):
            last = train(api)
            found = torn(home, tracking, api)
        print(f"killed while: {dict(far)}")
        report(sum(far.values()), home, last, silent, found)


def report(kills: int, home: Path, last: Any, silent: int, found: list[str]) -> None:
    ends = Counter(
        json.loads(each.read_text())["status"] for each in home.glob("coordinator/runs/*/run.json")
    )
    print(f"{kills} kills; trainings by end: {dict(ends)}; decisions: {len(decisions(home))}")
    print(
        f"the training after the last restart: {last[0]} in {last[1]:.1f} s; champion silent {silent} times"
    )
    print("\n".join(found) or "nothing torn")
    reached = not found and not silent and last[0] == "Completed"
    print("bar:", "reached" if reached else "MISSED")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
