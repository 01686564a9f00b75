"""A transformer through the pipeline: real processes, a kill in the middle, the registered model."""

import json
import math
import os
import signal
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import Small

from recommenders import sequence
from recommenders.sequence import SequenceConfig

pytest.importorskip("torch")

FILE = """
name: small
state: {state}
catalogue: items.parquet
content: items.parquet
participants:
  - {{name: east, events: {{path: east.csv, columns: &columns {{user: user, item: item, time: time}}}}}}
  - {{name: north, events: {{path: north.csv, columns: *columns}}}}
  - {{name: south, events: {{path: south.csv, columns: *columns}}}}
model:
  kind: sequence
  content: [place]
  sequence: {{width: 16, length: 20, blocks: 1, epochs: 6, rounds: 4, patience: 2, batch: 32,
    exchange: {{weighting: contribution}}}}
"""
ITEMS = 60


def consortium(small, large=80):
    """Users of three shops who each go on from item to item around a circle, a day for a step."""
    for place, name in enumerate(("east", "north", "south", "west")):
        random, rows = np.random.default_rng(place), []
        for user in range(large if name == "west" else 80):
            first, begun = random.integers(ITEMS), random.integers(100)
            rows += [
                (f"{name}-{user}", f"item-{(first + step) % ITEMS:05}", begun + step) for step in range(14)
            ]
        table = pd.DataFrame(rows, columns=["user", "item", "time"])
        table["time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(table["time"], unit="D")
        table.to_csv(small.folder / f"{name}.csv", index=False)
    angles = np.arange(ITEMS) * 2 * np.pi / ITEMS
    content = pa.table(
        {
            "item": [f"item-{n:05}" for n in range(ITEMS)],
            "place": [*np.column_stack([np.cos(angles), np.sin(angles)])],
        }
    )
    pq.write_table(content, small.folder / "items.parquet")
    path = small.folder / "small.yaml"
    path.write_text(FILE.format(state=small.folder / "state"))
    return path


def asynchronous(small, large, keep=1.0):
    """The same and west, of so many users, without content; a sum takes three of the four."""
    path = consortium(small, large)
    west = "  - {name: west, events: {path: west.csv, columns: *columns}}\n"
    text = path.read_text().replace("model:\n", west + "model:\n")
    for line in ("catalogue: items.parquet\n", "content: items.parquet\n", "  content: [place]\n"):
        text = text.replace(line, "")
    path.write_text(text.replace("weighting: contribution", f"together: 0.7, keep: {keep}"))
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The consortium after one run of a transformer."""
    small = Small(tmp_path_factory.mktemp("learned"))
    small.done = small.chorus("run", consortium(small), "--json", "figures.json")
    return small


def test_reading_histories_is_better_than_popularity(ran):
    overall = json.loads((ran.folder / "figures.json").read_text())["overall"]
    assert overall["consortium"]["ndcg_at_10"] > 2 * overall["popularity"]["ndcg_at_10"] > 0
    assert overall["consortium"]["ndcg_at_10"] > overall["alone"]["ndcg_at_10"]


def test_the_rounds_learn_and_are_told(ran):
    steps = [json.loads(path.read_text()) for path in sorted((ran.run / "round-0000").glob("learned-*.json"))]
    ndcg = [step["overall"]["ndcg_at_10"] for step in steps]
    assert 3 <= len(steps) <= 4
    assert max(ndcg) > ndcg[0]
    figures = json.loads((ran.folder / "figures.json").read_text())
    assert figures["federated_rounds"] == 1 + int(np.argmax(ndcg))
    assert f"federated round {len(steps)}, NDCG {ndcg[-1]:.4f} on validation" in ran.done.stderr
    assert len([*(ran.run / "round-0001").glob("learned-*.json")]) == figures["federated_rounds"]
    assert {len(set(step["bytes_up"].values())) for step in steps} == {1}  # whoever has more says no more
    weights, events = ([np.load(ran.run / path) for path in found] for found in _weights(ran))
    assert weights[0] == [round(1024 * math.e ** (5 * (1 - math.exp(-1)))) * events[0][-1]]
    assert (
        weights[1] > weights[0]
    )  # by then each knows how near it is to the others; of items nothing is said


def test_a_participants_seconds_are_those_of_its_training_too(ran):
    for number in (0, 1):
        folder = ran.run / f"round-{number:04}"
        steps = [json.loads(path.read_text()) for path in folder.glob("learned-*.json")]
        trained = {name: sum(step["trained"][name] for step in steps) for name in ("east", "north", "south")}
        told = json.loads((folder / "record.json").read_text())["participants"]
        assert all(told[name]["seconds"] > seconds > 0 for name, seconds in trained.items())


def test_the_registered_model_reads_a_history_in_order(ran):
    """By arrays and a file of code, without torch: `chorus recommend` asks it where there is no user."""
    assert "WARNING" not in ran.done.stderr
    told = []
    for history in ("item-00003,item-00009", "item-00009,item-00003"):
        ran.chorus("recommend", ran.folder / "small.yaml", "--history", history, "--json", "list.json")
        told.append(json.loads((ran.folder / "list.json").read_text()))
        assert len(told[-1]["items"]) == 10
        assert not {"item-00003", "item-00009"} & set(told[-1]["items"])
    assert told[0] != told[1]


@pytest.mark.slow
def test_who_is_slower_is_not_waited_for_and_added_when_it_has_finished(small):
    """West has fifty times the events of any other."""
    path = asynchronous(small, 4000)
    small.chorus("run", path, "--json", "figures.json")
    steps = [json.loads(each.read_text()) for each in _steps(small)]
    without = [step for step in steps if "west" not in step["cohort"]]
    later = [step for step in steps if "west" in step["cohort"]]
    assert len(without) > len(later) >= 2
    assert all(len(step["cohort"]) >= 3 for step in steps)
    assert any(step["late"]["west"] > 1 for step in later)
    assert all(len(step["cohort"]) == 4 for step in steps if step["over"])
    assert all(("overall" in step) == step["over"] for step in steps)
    figures = json.loads((small.folder / "figures.json").read_text())
    assert figures["federated_rounds"] <= sum(step["over"] for step in steps)
    overall = figures["overall"]
    assert overall["consortium"]["ndcg_at_10"] > 2 * overall["popularity"]["ndcg_at_10"] > 0


@pytest.mark.slow
def test_a_sum_without_its_checkpoint_is_resumed_with_all_who_were_in_it(small):
    """Four were in it, though three are enough; killed before the checkpoint, and its look.

    Half of the items are learned; a sum has no row of the others.
    """
    started = small.start("run", path := asynchronous(small, 80, keep=0.5))
    _wait_for(small, started, "learned-0000.json")
    while not any(json.loads(each.read_text())["over"] for each in _steps(small)):
        assert started.poll() is None
        time.sleep(0.01)
    small.kill(started)
    adding = json.loads((small.run / "run.json").read_text())["adding"]
    assert adding["step"] == len(_steps(small)) - 1  # the next one had not begun
    assert len(adding["begins"]) == 4
    _steps(small)[-1].unlink()
    name = f"sequence/{adding['step']}.npy"
    opened = (small.run / "round-0000.under-way" / name).read_bytes()
    dense = sequence.initial(0, SequenceConfig(width=16, length=20, blocks=1), 0).dense.size
    assert len(np.load(small.run / "round-0000.under-way" / name)) == dense + ITEMS // 2 * 16
    small.chorus("resume", small.run.name, path)
    assert (small.run / "round-0000" / name).read_bytes() == opened
    step = json.loads(_steps(small)[adding["step"]].read_text())
    assert (len(step["cohort"]), step["over"]) == (4, True)


@pytest.mark.slow
def test_a_killed_training_and_a_part_that_is_done_again_end_in_the_same_bits(ran, small):
    """A participant is killed in the second federated round, and the run; then east's part is redone."""
    path = consortium(small)
    started = small.start("run", path)
    _wait_for(small, started, "learned-0000.json")
    for process in small.processes("participants/north"):
        os.kill(process, signal.SIGKILL)
    small.kill(started)
    small.chorus("rerun", small.run.name, path, "--participant", "east", "--json", "figures.json")
    ours, theirs = (json.loads((each.folder / "figures.json").read_text()) for each in (small, ran))
    assert ours["overall"] == theirs["overall"]
    assert ours["participants"] == theirs["participants"]
    last = f"round-0001/sequence/{ours['federated_rounds'] - 1}.npy"
    assert (small.run / last).read_bytes() == (ran.run / last).read_bytes()


def _weights(small):
    """Of round 0 the sums of weights by contribution, by step, and of those by events."""
    return (
        [small.run / f"round-0000/contributions/{step}.npy" for step in range(2)],
        sorted((small.run / "round-0000/weights").glob("*.npy")),
    )


def _steps(small):
    """The checkpoints of round 0."""
    return sorted(small.folder.glob("state/small/coordinator/runs/*/round-0000*/learned-*.json"))


def _wait_for(small, started, step):
    deadline = time.monotonic() + 300
    while not [*small.folder.glob(f"state/small/coordinator/runs/*/round-0000*/{step}")]:
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
