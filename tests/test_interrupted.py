"""Killed, hung and failed runs: they go on to the bits of the uninterrupted one."""

import gzip
import json
import random
import secrets
import sqlite3
import subprocess
import threading
import time

import pytest

KEPT = ("round-0000/gram/1/0.npy", "round-0001/gram/3/0.npy", "round-0001/popularity/3.npy")


def equal(small, ran):
    """The figures and the opened sums of both are the same to the last bit."""
    ours, theirs = (json.loads((each.folder / "figures.json").read_text()) for each in (small, ran))
    assert ours["overall"] == theirs["overall"]
    for name in ours["participants"]:
        assert ours["participants"][name] == theirs["participants"][name]
    for name in KEPT:
        assert (small.run / name).read_bytes() == (ran.run / name).read_bytes()


def one_run_without_repeats(small):
    """MLflow holds one finished run, whose metrics have each step once."""
    with sqlite3.connect(small.home / "mlflow" / "mlflow.db") as database:
        assert database.execute("select status from runs").fetchall() == [("FINISHED",)]
        steps = {}
        for key, step in database.execute("select key, step from metrics order by timestamp").fetchall():
            steps.setdefault(key, []).append(step)
    assert "ndcg_at_10" in steps
    assert all(len(set(each)) == len(each) for each in steps.values())
    for key, each in steps.items():
        if not key.startswith("ranker/"):  # whose steps are numbers of trees
            assert each == ([1] if "reachable/" in key else [0, 1]), key


def states(small, table="flow_run"):
    with sqlite3.connect(small.home / "prefect" / "prefect.db") as database:
        return database.execute(f"select name, state_type, state_name from {table}").fetchall()


@pytest.mark.slow
def test_killed_at_random_points_and_resumed_to_the_same_bits(ran, small):
    seed, path, kills = secrets.randbelow(10**6), small.consortium(), 0
    print(f"kills drawn with seed {seed}")
    draw = random.Random(seed)
    while kills < 4:
        runs = [*(small.home / "coordinator" / "runs").glob("*/run.json")]
        started = small.start(*(["resume", runs[0].parent.name, path] if runs else ["run", path]))
        _wait_for_work(small, started)
        try:
            started.wait(draw.uniform(0, 12))
            break  # it was faster than the signal
        except subprocess.TimeoutExpired:
            small.kill(started)
            kills += 1
    small.chorus("resume", small.run.name, path, "--json", "figures.json")
    equal(small, ran)
    one_run_without_repeats(small)
    ended = [state for _, state, _ in states(small)]
    assert ended.count("COMPLETED") == 1
    assert ended.count("CRASHED") == len(ended) - 1


@pytest.mark.slow
def test_a_part_is_redone_after_its_participant_hung_on_the_same_data(ran, small):
    path = small.consortium("rounds: {deadline_seconds: 30}")
    failed = _run_while_hanging(small, "south", path, code=4)
    assert "south: silent until its deadline of 30 s" in failed.stderr
    assert "failed" in small.chorus("runs", path).stdout
    with gzip.open(small.home / "world" / "north.tsv.gz", "at") as file:
        file.write("a-late-customer\tproduct\t5\t1700000000\n")
    other = small.chorus("resume", small.run.name, small.consortium("seed: 5"), code=2)
    assert "have changed" in other.stderr
    small.consortium("rounds: {deadline_seconds: 600}")
    small.chorus("rerun", small.run.name, path, "--participant", "south", "--json", "figures.json")
    equal(small, ran)
    one_run_without_repeats(small)
    redone = {name: state for name, _, state in states(small, "task_run") if name.startswith("train")}
    assert redone["train south, round 0"] == "Completed"
    assert redone["train north, round 0"] == "Cached"


@pytest.mark.slow
def test_the_flow_goes_on_without_a_participant_that_hangs(small):
    path = small.consortium("rounds: {deadline_seconds: 30, minimum: 2, agreed_to_two: true}")
    done = _run_while_hanging(small, "east", path)
    assert "east is not in these figures" in done.stdout
    told = json.loads((small.folder / "figures.json").read_text())["participants"]
    assert told["east"]["consortium"] is None
    assert told["north"]["consortium"]["ndcg_at_10"] > 0
    assert ("train small, " + small.run.name, "COMPLETED", "Completed") in states(small)


@pytest.mark.slow
def test_compare_shows_pooled_beside_the_consortium(small):
    done = small.chorus("compare", small.consortium(), "--json", "figures.json")
    figures = json.loads((small.folder / "figures.json").read_text())
    pooled = figures["participants"]["north"]["pooled"]["ndcg_at_10"]
    assert f"{pooled:.4f}".removeprefix("0") in done.stdout
    assert 0 < figures["overall"]["pooled"]["ndcg_at_10"] < figures["overall"]["reachable"]["ndcg_at_10"]
    assert figures["participants"]["south"]["pooled"] is None
    for told in (figures["overall"], *(figures["participants"][name] for name in ("east", "north"))):
        assert told["pooled"].items() <= told["consortium"].items()  # the very model that pooled rows give
        assert not told["bagged"].items() <= told["consortium"].items()
    assert "pooled rows: candidates are found in 1 of " in done.stdout + done.stderr
    assert [*(small.home / "mlflow" / "artifacts").rglob("compare.png")]
    for table in ("flow_run", "task_run"):
        assert {state for _, state, _ in states(small, table)} == {"COMPLETED"}


def _wait_for_work(small, started):
    """Until its flow has begun: a participant's process is there, or the command has ended."""
    while not small.processes("tasks.participant") and started.poll() is None:
        time.sleep(0.05)


def _run_while_hanging(small, name, path, code=0):
    """Run to its end while whatever process is `name`'s is stopped (SIGSTOP) from its training on."""
    over = threading.Event()

    def hang():
        while not over.wait(0.02):
            runs = (small.home / "coordinator" / "runs").glob("*/run.json")
            if any('"cuts"' in facts.read_text() for facts in runs):
                for pid in small.processes(f"participants/{name}"):
                    subprocess.run(["kill", "-STOP", str(pid)], capture_output=True)

    hanging = threading.Thread(target=hang)
    hanging.start()
    try:
        return small.chorus("run", path, "--json", "figures.json", code=code)
    finally:
        over.set()
        hanging.join()
