"""Trainings one after another, really run: champion, challenger, gate, nothing new, who came and went."""

import csv
import gzip
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import numpy as np
import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows.consortium import read_consortium
from flows.evaluation import evaluate
from flows.scheduled import run_name, train_on_schedule
from mlruns_config.champions import Champions
from mlruns_config.tracking import Tracking
from tasks import server
from tasks.decisions import observe
from tasks.order import Order, TrainingOrder
from tasks.runs import RunFolder, all_runs, runs_folder

pytestmark = pytest.mark.slow
FAST = "windows: [30, 3650], shares: [0, 1], regularisations: [20]"


@pytest.fixture
def trained(api, tiny, tmp_path):
    """Train the consortium in a file as a deployment does; returns the state, and the newest run's facts."""

    def train(path, **told):
        order = TrainingOrder(consortium=path, folder=tmp_path, **told)
        state = train_on_schedule(order, return_state=True)
        return state, all_runs(read_consortium(path).home)[-1].facts

    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):  # else it waits for the server at exit
        yield train


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


def test_trainings_in_a_row(trained, tiny, tmp_path):
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

    order = Order(consortium=path, folder=tmp_path)
    assert evaluate(order, return_state=True).name == "Skipped"
    add_events(consortium.data)
    state = evaluate(order, return_state=True)
    assert state.name == "Completed", state.message
    assert f"champion of run {first['run']}: ndcg_at_10 " in state.message
    state = evaluate(order, return_state=True)
    assert (state.name, state.message.endswith("was evaluated on these data before")) == ("Skipped", True)
    seen, _ = observe.fn(Tracking(consortium.tracking, consortium.home), "tiny", "ndcg_at_10", 60.0)
    assert [each.trained for each in seen] == [True, True, False]
    assert not [*consortium.home.glob("participants/*/work/evaluation-*")]

    state, facts = trained(path)
    figures, tags = facts["figures"], champions.client.get_run(facts["mlflow_run_id"]).data.tags
    assert figures["judged"]["gain"] != 0 < figures["judged"]["gain_error"]
    champions_now = figures["overall"]["consortium"]["ndcg_at_10"] - figures["judged"]["gain"]
    assert seen[-1].metric == pytest.approx(champions_now, abs=1e-8)
    assert 0 < seen[-1].metric_error < 0.1
    assert seen[-1].bytes > 0
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


@pytest.mark.parametrize("yes", [True, False])
def test_a_person_answers_in_prefects_page(trained, tiny, client, yes):
    path = small(tiny, "popularity", "gate: {approval: true}\nschedule: {always: true}")
    consortium = read_consortium(path)
    champions = Champions(Tracking(consortium.tracking, consortium.home), consortium.name)
    _, first = trained(path)
    assert (champions.version(), first["figures"]["gate"]["waits"]) == (1, False)
    for popularity in consortium.home.glob(f"participants/*/models/{first['run']}/popularity.npy"):
        np.save(popularity, -np.load(popularity))  # the champion turns bad

    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(copy_context().run, trained, path, always=True)
        paused = until_paused(client)
        assert champions.version() == 1
        assert (
            RunFolder(runs_folder(consortium.home) / run_name(str(paused.id))).facts["status"] == "finished"
        )
        with server.exclusive(consortium.home):  # the state folder is free meanwhile
            client.resume_flow_run(paused.id, run_input={"promote": yes, "reason": "as I see it"})
        state, facts = training.result()
    assert state.is_completed(), state.message
    assert champions.version() == (2 if yes else 1)
    said = f"A person {'approved' if yes else 'did not approve'}. as I see it"
    assert facts["figures"]["gate"]["reason"] == said
    assert said in state.message
    tags = champions.client.get_run(facts["mlflow_run_id"]).data.tags
    assert (tags["chorus.promoted"], tags["chorus.verdict"]) == (str(yes).lower(), said)


def until_paused(client):
    """The flow run that waits for an answer."""
    paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=["PAUSED"])))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if found := client.read_flow_runs(flow_run_filter=paused):
            return found[0]
        time.sleep(0.5)
    pytest.fail("no flow run has paused")
