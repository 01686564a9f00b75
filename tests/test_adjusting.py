"""Decisions applied at a real Prefect server, and their record: on disk, at MLflow, at Prefect."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import SimpleNamespace as Some

import pytest

from federation.durations import DAY
from federation.frequency import FrequencyConfig, decide
from federation.observation import Bounds, Costs, Observation, trainings
from flows import schedule
from flows.consortium import read_consortium
from mlruns_config.config import TrackingConfig
from mlruns_config.tracking import Tracking
from tasks import timetable
from tasks.decisions import decisions, observe

PLATEAU = "frequency: {policy: {kind: plateau, shortest_days: 0.7, longest_days: 30}}"
CONFIG = FrequencyConfig.model_validate(
    {"policy": {"kind": "plateau", "shortest_days": 0.7, "longest_days": 30}}
)


def history(count, gain):
    return [
        Observation(
            at=day * DAY, trained=True, interval_seconds=DAY, metric=0.2, metric_error=0.01,
            gain=gain, gain_error=0.001, drift=0.0, unseen=0.0,
        )
        for day in range(count)
    ]  # fmt: skip


@pytest.fixture
def adjust(api):
    from tasks.adjusting import adjust

    return adjust.fn


def found(client, name):
    deployment = client.read_deployment_by_name(f"train-on-schedule/{name}")
    return timetable.found_at(client, deployment.id)


def test_a_decision_is_applied_recorded_and_outlives_a_deploy(client, deploy, adjust, tiny):
    path = tiny("decides", PLATEAU)
    deploy(path)
    home, seen = read_consortium(path).home, history(8, gain=0.0)
    expected = decide(CONFIG, seen, DAY)
    assert expected.interval_seconds > DAY
    decided = adjust(home, "decides", CONFIG, seen)
    (timing,) = found(client, "decides")
    assert timing.seconds == decided.interval_seconds == pytest.approx(expected.interval_seconds)
    assert timing.anchor == read_consortium(path).schedule.anchor
    assert (decided.number, decided.old, decided.reason) == (1, "every 1d", expected.reason)
    assert (decided.observed, decided.newest, decided.state) == (8, seen[-1], expected.state)
    assert decisions(home) == [decided]
    deploy(path)
    assert found(client, "decides") == (timing,)
    assert timetable.read(home, "train-on-schedule").pin is None  # nothing of it is taken for a hand


def test_a_pin_and_a_hand_in_the_page_win_over_the_policy(client, deploy, adjust, tiny):
    from prefect.client.schemas.schedules import CronSchedule

    path = tiny("pinned", PLATEAU)
    deploy(path)
    home = read_consortium(path).home
    schedule.pin(path, "2d")
    decided = adjust(home, "pinned", CONFIG, history(8, gain=0.0))
    assert decided.new == "every 2d"
    assert "Pinned at every 2d by chorus schedule pin" in decided.reason
    deployment = client.read_deployment_by_name("train-on-schedule/pinned")
    (present,) = client.read_deployment_schedules(deployment.id)
    nightly = CronSchedule(cron="0 2 * * *", timezone="UTC")
    client.update_deployment_schedule(deployment.id, present.id, schedule=nightly)
    decided = adjust(home, "pinned", CONFIG, history(8, gain=0.0))
    assert decided.new == timetable.text(found(client, "pinned")) == "at 0 2 * * *"
    assert decided.old == "every 2d"
    assert "by Prefect's page" in decided.reason


def test_a_policy_remembers_what_it_learned_through_a_pin(client, deploy, adjust, tiny):
    path = tiny("learns", "frequency: {policy: {kind: bandit}}")
    deploy(path)
    consortium = read_consortium(path)
    learned = adjust(consortium.home, "learns", consortium.frequency, history(8, gain=0.1)).state
    assert learned["trainings"] == 8
    schedule.pin(path, "2d")
    schedule.unpin(path)
    later = history(10, gain=0.1)[8:]  # the older ones are not at MLflow any more
    assert adjust(consortium.home, "learns", consortium.frequency, later).state["trainings"] == 10


def test_nothing_to_observe_keeps_the_interval_and_says_so(client, deploy, adjust, tiny):
    path = tiny("nothing", PLATEAU)
    deploy(path)
    home = read_consortium(path).home
    down = adjust(home, "nothing", CONFIG, [], "MLflow does not answer (ConnectionError).")
    assert down.new == down.old == "every 1d"
    assert "MLflow does not answer" in down.reason
    first_week = adjust(home, "nothing", CONFIG, [])
    assert first_week.new == "every 1d"
    assert first_week.reason
    assert [timing.seconds for timing in found(client, "nothing")] == [DAY]


def test_many_adjusters_at_once_leave_one_schedule_and_a_history_without_gap(client, deploy, adjust, tiny):
    path = tiny("many", PLATEAU)
    deploy(path)
    home = read_consortium(path).home
    seen = history(8, gain=0.0)
    with ThreadPoolExecutor(4) as threads:
        settings = [copy_context() for _ in range(8)]  # of this test's server
        told = [*threads.map(lambda each: each.run(adjust, home, "many", CONFIG, seen), settings)]
    assert sorted(each.number for each in told) == [*range(1, 9)]
    in_order = decisions(home)
    assert [each.old for each in in_order[1:]] == [each.new for each in in_order[:-1]]
    (timing,) = found(client, "many")
    assert timing.seconds == in_order[-1].interval_seconds


@pytest.mark.parametrize("uri", [None, "postgresql://chorus:s3cret@nowhere/mlflow"])
def test_a_damaged_store_or_a_missing_driver_is_why_nothing_is_known(uri, tmp_path):
    from tasks.decisions import observe

    tracking = Tracking(TrackingConfig(uri=uri), tmp_path)
    tracking.folder.mkdir()
    (tracking.folder / "mlflow.db").write_text("no database, but something else of some length")
    seen, trouble = observe.fn(tracking, "tiny", "ndcg_at_10", DAY)
    assert seen == []
    assert trouble.startswith("MLflow does not answer (tracking.uri: found ")
    assert ("file is not a database" if uri is None else "psycopg2") in trouble
    assert "s3cret" not in trouble


def test_an_adjuster_without_a_deployment_says_so(adjust, tiny):
    from federation.errors import BadInput

    home = read_consortium(tiny("never")).home
    with pytest.raises(BadInput, match="chorus deploy"):
        adjust(home, "never", CONFIG, [])


RUN = """
import sys
from pathlib import Path
from flows.frequency import adjust_frequency
from tasks.order import Order
state = adjust_frequency(Order(consortium=sys.argv[1], folder="."), return_state=True)
print(state.name, state.message)
"""


@pytest.mark.parametrize(("promoted", "metric"), [("true", 0.2), ("false", 0.25)])
def test_a_training_that_was_not_promoted_tells_of_the_champion_that_it_met(promoted, metric):
    data = Some(metrics={"ndcg_at_10": 0.2, "gain": -0.05}, tags={"chorus.promoted": promoted})
    client = Some(search_runs=lambda *_, **__: [Some(data=data, info=Some(end_time=1e3))])
    (seen,), _ = observe.fn(Some(client=client, experiment_id="1"), "shops", "ndcg_at_10", DAY)
    assert (seen.metric, seen.gain) == (metric, -0.05)
    (told,) = trainings([seen], Bounds(), Costs())
    assert told.gain == -0.05 / metric


@pytest.mark.slow
def test_mlflow_and_prefect_are_told_and_mlflow_also_later(client, deploy, tiny):
    path = tiny("flow", PLATEAU)
    deploy(path)
    consortium = read_consortium(path)
    tracking = Tracking(consortium.tracking, consortium.home)
    for number in range(3):
        run_id = tracking.start_or_continue(f"run-{number}", "flow", {"consortium": "flow"}, {})
        metrics = {"ndcg_at_10": 0.2 + number / 10, "gain": 0.1, "bytes_up": 7, "bytes_down": 5}
        tracking.log_metrics(run_id, 0, metrics)
        tracking.finish(run_id, "FINISHED")
    assert _run(path).startswith("Completed every ")
    told = _run(tiny("flow", PLATEAU + "\ntracking: {uri: 'http://127.0.0.1:9'}"))
    assert "nothing can be observed: MLflow does not answer" in told
    assert "MLflow was not told" in told
    _run(tiny("flow", PLATEAU))
    (run,) = tracking.client.search_runs([tracking.experiment_id], "tags.`chorus.run` = 'frequency-flow'")
    history = tracking.client.get_metric_history(run.info.run_id, "interval_days")
    assert [each.step for each in history] == [1, 2, 3]
    records = tracking.client.list_artifacts(run.info.run_id, "decisions")
    assert [each.path for each in records] == [f"decisions/{number:06}.json" for number in (1, 2, 3)]
    first = decisions(consortium.home)[0]
    assert first.observed == 3
    assert first.newest.metric == pytest.approx(0.4)
    assert first.newest.bytes == 12
    shown = [each for each in client.read_artifacts() if each.key == "frequency-flow"]
    assert len(shown) == 3
    assert any(first.reason in each.data for each in shown)


def _run(path):
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]
