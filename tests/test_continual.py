"""Trainings one after another, really run: champion, challenger, gate, nothing new, who came and went."""

import csv
import gzip

import pytest

from flows.consortium import read_consortium
from mlruns_config.champions import Champions
from mlruns_config.tracking import Tracking
from tasks.order import TrainingOrder
from tasks.runs import all_runs

pytestmark = pytest.mark.slow
FAST = "windows: [30, 3650], shares: [0, 1], regularisations: [20]"


@pytest.fixture
def trained(api, tiny, tmp_path):
    """Train the consortium in a file as a deployment does; returns the state, and the newest run's facts."""
    from flows.scheduled import train_on_schedule

    def train(path, **told):
        order = TrainingOrder(consortium=path, folder=tmp_path, **told)
        state = train_on_schedule(order, return_state=True)
        return state, all_runs(read_consortium(path).home)[-1].facts

    return train


def small(tiny, kind, more=""):
    path = tiny("tiny", more)
    text = path.read_text().replace("shares: [0, 1], regularisations: [20]", f"kind: {kind}, {FAST}")
    path.write_text(text)
    return path


def add_events(world, many=400):
    """North's customers buy on, after all that there is."""
    path = world / "north.tsv.gz"
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    known = [row for row in rows if row["customer"] and row["product"] and row["bought_at"].isdigit()]
    last = max(int(row["bought_at"]) for row in known)
    with gzip.open(path, "at") as file:
        for place, row in enumerate(known[:many]):
            file.write(
                "\t".join(
                    {**row, "product": known[-place]["product"], "bought_at": str(last + 600 * place)}[name]
                    for name in rows[0]
                )
                + "\n"
            )


def test_trainings_in_a_row(trained, tiny):
    path = small(tiny, "item_to_item")
    consortium = read_consortium(path)
    champions = Champions(Tracking(consortium.tracking, consortium.home), consortium.name)

    state, first = trained(path)
    assert (state.name, champions.version()) == ("Completed", 1), state.message
    assert "There was no champion." in state.message

    state, facts = trained(path)
    assert (state.name, facts["status"]) == ("Skipped", "skipped")
    assert state.message == f"data and configuration are those of run {first['run']}"
    told = champions.client.get_run(facts["mlflow_run_id"])
    assert (told.info.status, told.data.tags["chorus.skipped"]) == ("KILLED", state.message)

    state, facts = trained(path, always=True)
    judged = facts["figures"]["judged"]
    assert (judged["gain"], judged["gain_error"], judged["worse"], judged["compared"]) == (0, 0, 0, 3)
    assert (facts["figures"]["gate"]["promote"], champions.version()) == (False, 1)
    assert (
        facts["figures"]["participants"]["east"]["champion"]
        == first["figures"]["participants"]["east"]["consortium"]
    )

    add_events(consortium.data)
    state, facts = trained(path)
    figures, tags = facts["figures"], champions.client.get_run(facts["mlflow_run_id"]).data.tags
    assert figures["judged"]["gain"] != 0 < figures["judged"]["gain_error"]
    logged = champions.client.get_run(facts["mlflow_run_id"]).data.metrics
    assert {name: logged[name] for name in figures["judged"]} == figures["judged"]
    assert {
        "ndcg_at_10_error",
        "gain",
        "gain_error",
        "drift",
        "unseen",
        "seconds",
        "bytes_up",
    } <= logged.keys()
    assert champions.version() == (3 if figures["gate"]["promote"] else 1)
    assert tags["chorus.promoted"] == str(figures["gate"]["promote"]).lower()
    assert figures["gate"]["reason"] in state.message

    lonely = path.read_text().replace("name: north", "name: north2")
    path.write_text(lonely)
    (consortium.data / "north2.tsv.gz").write_bytes((consortium.data / "north.tsv.gz").read_bytes())
    state, facts = trained(path)
    assert (facts["figures"]["gate"]["joined"], facts["figures"]["gate"]["left"]) == (["north2"], ["north"])
    assert facts["figures"]["judged"]["compared"] == 2
    assert "only 2 have both models, expected 3" in facts["figures"]["gate"]["reason"]
