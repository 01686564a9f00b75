"""Trainings one after another, really run: champion, challenger, gate, nothing new, who came and went."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial
from threading import Timer

import numpy as np
import pandas as pd
import pytest
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows.consortium import read_consortium
from flows.evaluation import evaluate
from flows.scheduled import run_name, train_on_schedule
from mlruns_config.champions import Champions
from mlruns_config.tracking import Tracking
from recommenders.two_stage import STORE
from tasks import locks, recommending, timetable
from tasks.decisions import observe
from tasks.deployments import TRAINING
from tasks.order import Order, TrainingOrder
from tasks.room import Room
from tasks.runs import RunFolder, all_runs, runs_folder
from tasks.timing import parse_timing

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
    given = "kind: item_to_item, shares: [0, 1], regularisations: [20]"
    path.write_text(path.read_text().replace(given, f"kind: {kind}, {FAST}"))
    return path


def add_events(world, *names, new=None):
    """The users of `names` have more, after all that there is; each third one the item `new`."""
    read = {"east": pd.read_csv, "north": partial(pd.read_csv, sep="\t"), "south": pd.read_parquet}
    for name in names:
        (path,) = world.glob(f"{name}.*")
        table = read[name](path)
        _, item, _, time = table.columns
        more = table.dropna().head(400).copy()
        more[item] = more[item].to_numpy()[::-1]
        if new is not None:
            more.loc[more.index[::3], item] = new
        last = pd.to_datetime(table[time], unit="s" if name == "north" else None).max()
        at = last + pd.to_timedelta(600 * np.arange(1, len(more) + 1), unit="s")
        more[time] = {
            "east": at.strftime("%Y-%m-%dT%H:%M:%S"),
            "north": at.as_unit("s").astype("int64"),
            "south": at,
        }[name]
        write(pd.concat([table, more]), path)


def write(table, path):
    """As the generator of the world does."""
    if path.suffix == ".parquet":
        return table.to_parquet(path, index=False)
    return table.to_csv(path, sep="\t" if ".tsv" in path.name else ",", index=False)


def test_trainings_in_a_row(trained, tiny, tmp_path):
    path = small(tiny, "item_to_item")
    consortium = read_consortium(path)
    champions = Champions(Tracking(consortium.tracking, consortium.home), consortium.name)
    daily = parse_timing("1d", consortium.schedule.anchor)
    timetable.save(consortium.home, TRAINING, timetable.Timetable(configured=daily, decided=daily))

    state, first = trained(path)
    assert (state.name, champions.version()) == ("Completed", 1), state.message
    assert "There was no champion before it." in state.message

    state, facts = trained(path)
    assert (state.name, facts["status"]) == ("Skipped", "skipped")
    assert state.message == f"data and configuration are those of run {first['run']}"
    told = champions.client.get_run(facts["mlflow_run_id"])
    assert (told.info.status, told.data.tags["chorus.skipped"]) == ("KILLED", state.message)

    state, facts = trained(path, always=True)
    judged = facts["figures"]["judged"]
    assert (judged["gain"], judged["gain_error"], judged["worse"], judged["compared"]) == (0, 0, 0, 3)
    assert (facts["figures"]["gate"]["promote"], champions.version()) == (False, 1)
    then = first["figures"]["participants"]["east"]["consortium"]
    assert facts["figures"]["participants"]["east"]["champion"].items() <= then.items()

    order = Order(consortium=path, folder=tmp_path)
    with ExitStack() as busy:  # what begins at the same moment is waited for
        busy.enter_context(locks.exclusive(consortium.home))
        Timer(1.0, busy.close).start()
        assert evaluate(order, return_state=True).name == "Skipped"
    add_events(consortium.data, "east", "north", "south")
    others = {
        path: path.stat().st_mtime_ns for path in consortium.home.glob("participants/*/models/*/others/*")
    }
    state = evaluate(order, return_state=True)
    assert state.name == "Completed", state.message
    for model in consortium.home.glob(f"participants/*/models/{first['run']}/model.json"):
        assert json.loads(model.read_text())["served"].startswith("evaluation-")
    assert others == {path: path.stat().st_mtime_ns for path in others}
    assert f"champion of run {first['run']}: ndcg_at_10 " in state.message
    state = evaluate(order, return_state=True)
    assert (state.name, state.message.endswith("was evaluated on these data before")) == ("Skipped", True)
    seen, _ = observe.fn(Tracking(consortium.tracking, consortium.home), "tiny", "ndcg_at_10", 60.0)
    assert [each.trained for each in seen] == [True, True, False]
    assert {each.interval_seconds for each in seen} == {86_400}
    assert not [*consortium.home.glob("participants/*/work/evaluation-*")]
    (evaluation,) = champions.client.search_runs(
        [Tracking(consortium.tracking, consortium.home).experiment_id], "tags.`chorus.kind` = 'evaluation'"
    )
    judged_on = json.loads((consortium.home / f"coordinator/runs/{first['run']}/run.json").read_text())[
        "evaluated"
    ]
    inputs = evaluation.inputs.dataset_inputs
    assert {each.dataset.name: each.dataset.digest for each in inputs} == {
        name: version[:36] for name, version in judged_on[-1].items()
    }
    assert {tag.value for each in inputs for tag in each.tags} == {"evaluation"}
    drift = {
        name: index for name, index in evaluation.data.metrics.items() if name.startswith("feature_drift/")
    }
    assert drift.keys() == {f"feature_drift/{name}" for name in STORE} <= judged.keys()
    assert 0 < min(drift.values()) <= max(drift.values()) == seen[-1].features

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


def test_new_items_are_learned_and_the_champion_is_still_met(trained, tiny):
    path = small(tiny, "popularity")
    consortium = read_consortium(path)
    trained(path)
    items = consortium.catalogue_path.read_text().split()
    add_events(consortium.data, *consortium.names, new="brand-new")
    add_events(consortium.data, "north", new="a-north-one")
    state, facts = trained(path)
    assert facts["status"] == "finished", state.message
    assert consortium.catalogue_path.read_text().split() == [*items, "a-north-one", "brand-new"]
    assert facts["items"] == len(items) + 2
    assert facts["figures"]["judged"]["compared"] == 3
    common = Tracking(consortium.tracking, consortium.home).champion("tiny")
    assert common([{"history": ["brand-new"], "k": 1}])
    east = Room(consortium.home / "participants" / "east", consortium.memberships[0])
    events = east.events().to_pandas()
    user = events[~events.user.isin(events.user[events["item"] == "brand-new"])].user.iloc[0]
    assert "brand-new" in recommending.recommend(east, facts["run"], user, 1000)["items"]


def test_a_participant_with_a_cadence_takes_part_with_what_it_brought_last(trained, tiny):
    path = small(tiny, "popularity", "rounds: {minimum: 2, agreed_to_two: true}")
    text = path.read_text().replace("name: north\n", "name: north\n    cadence_days: 30\n")
    path.write_text(text)
    consortium = read_consortium(path)
    _, first = trained(path)

    add_events(consortium.data, "east", "north", "south")
    state, second = trained(path)
    assert second["status"] == "finished", state.message
    same = {name for name in consortium.names if first["versions"][name] == second["versions"][name]}
    assert same == {"north"}
    assert second["cohort"] == ["east", "north", "south"]

    (manifest,) = consortium.home.glob("participants/north/store/*/north/manifest.json")
    month_ago = time.time() - 30 * 86_400
    os.utime(manifest, (month_ago, month_ago))
    state, third = trained(path)
    assert third["versions"]["north"] != second["versions"]["north"]
    assert state.name == "Skipped"
    assert state.message == f"only north of the 2 needed has new data since run {second['run']}"
    add_events(consortium.data, "east")
    state, fourth = trained(path)
    assert fourth["status"] == "finished", state.message
    assert fourth["versions"]["north"] == third["versions"]["north"]


@pytest.mark.parametrize("yes", [True, False])
def test_a_person_answers_in_prefects_page(trained, tiny, client, until_paused, yes):
    path = small(tiny, "popularity", "gate: {approval: true}\nschedule: {always: true}")
    consortium = read_consortium(path)
    champions = Champions(Tracking(consortium.tracking, consortium.home), consortium.name)
    _, first = trained(path)
    assert (champions.version(), first["figures"]["gate"]["waits"]) == (1, False)
    for model in consortium.home.glob(f"participants/*/models/{first['run']}/model.json"):
        kept = json.loads(model.read_text())
        model.write_text(json.dumps({**kept, "choice": {**kept["choice"], "share": 1.0}}))
        others = model.parent / "others" / "counts.npy"
        counts = np.load(others)
        np.save(others, 1000 * (counts.max() - counts))  # the champion turns bad

    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(copy_context().run, trained, path, always=True)
        paused = until_paused()
        assert champions.version() == 1
        assert (
            RunFolder(runs_folder(consortium.home) / run_name(str(paused.id))).facts["status"] == "finished"
        )
        with locks.exclusive(consortium.home):  # the state folder is free meanwhile
            client.resume_flow_run(paused.id, run_input={"promote": yes, "reason": "as I see it"})
        state, facts = training.result()
    assert state.is_completed(), state.message
    assert champions.version() == (2 if yes else 1)
    said = f"{'A person approved' if yes else 'Not approved'}. as I see it"
    assert facts["figures"]["gate"]["reason"] == said
    assert said in state.message
    shown = [each.data for each in client.read_artifacts() if each.key == "gate"]
    assert f"Run {facts['run']}, version 2, {'' if yes else 'not '}promoted: {said}" in shown
    tags = champions.client.get_run(facts["mlflow_run_id"]).data.tags
    assert (tags["chorus.promoted"], tags["chorus.verdict"]) == (str(yes).lower(), said)
