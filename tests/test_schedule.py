"""How often a consortium trains, at a real Prefect server: configured, decided, pinned, edited by hand."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from flows import schedule
from flows.consortium import read_consortium
from tasks import timetable
from tasks.deployments import TRAINING
from tasks.timing import Timing

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)


def training(client, name):
    return client.read_deployment_by_name(f"train-on-schedule/{name}")


def found(client, name):
    return timetable.text(timetable.found_at(client, training(client, name).id))


def coming(client, deployment_id, by_schedule=True):
    """Times of the runs that are scheduled, in order."""
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType

    scheduled = filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED])
    chosen = filters.FlowRunFilter(
        deployment_id=filters.FlowRunFilterDeploymentId(any_=[deployment_id]),
        state=filters.FlowRunFilterState(type=scheduled),
    )
    runs = client.read_flow_runs(flow_run_filter=chosen, limit=200)
    return sorted(run.expected_start_time for run in runs if run.auto_scheduled or not by_schedule)


def daily_at(hours):
    return tuple(Timing(cron=f"0 {hour} * * *", timezone="UTC") for hour in hours)


def interrupt(*arguments):
    raise KeyboardInterrupt


def by_hand(client, name, schedule):
    """What Prefect's page does when a person edits the schedule."""
    deployment = training(client, name)
    (present,) = client.read_deployment_schedules(deployment.id)
    client.update_deployment_schedule(deployment.id, present.id, schedule=schedule)


def test_a_changed_configuration_is_deployed_and_a_pin_wins_over_it(client, deploy, tiny, tmp_path):
    deploy(tiny("changed", "frequency: {policy: {kind: periodic, days: 1}}"))
    assert found(client, "changed") == "every 1d"
    path = tiny("changed", "frequency: {policy: {kind: periodic, days: 2}}")
    deploy(path)
    assert found(client, "changed") == "every 2d"
    schedule.pin(path, "6h")
    assert found(client, "changed") == "every 6h"
    deploy(tiny("changed", "frequency: {policy: {kind: periodic, days: 3}}"))
    assert found(client, "changed") == "every 6h"
    schedule.unpin(path)
    assert found(client, "changed") == "every 3d"
    schedule.unpin(path)  # nothing is pinned: no decision
    schedule.history(path, tmp_path / "history.json")
    told = json.loads((tmp_path / "history.json").read_text())["decisions"]
    assert [(each["number"], each["old"], each["new"]) for each in told] == [
        (1, "every 2d", "every 6h"), (2, "every 6h", "every 3d"),
    ]  # fmt: skip


def test_a_schedule_edited_by_hand_is_shown_as_a_pin_and_respected(client, deploy, tiny, ends, tmp_path):
    from prefect.client.schemas.schedules import CronSchedule

    path = tiny("hand")
    deploy(path)
    by_hand(client, "hand", CronSchedule(cron="30 4 * * *", timezone="UTC"))
    deploy(path)
    assert found(client, "hand") == "at 30 4 * * *"
    ends("schedule", "show", path, "--json", tmp_path / "show.json", code=0)
    told = json.loads((tmp_path / "show.json").read_text())["deployments"]["train-on-schedule"]
    assert told == {
        "configured": "every 7d",
        "decided": "every 7d",
        "pinned": "at 30 4 * * *",
        "pinned_by": "Prefect's page",
        "prefect": "at 30 4 * * *",
        "paused": False,
    }
    ends("schedule", "unpin", path, code=0)
    assert found(client, "hand") == "every 7d"


def test_a_schedule_paused_or_doubled_by_hand_stays_so(client, deploy, tiny):
    from prefect.client.schemas.schedules import CronSchedule

    path = tiny("paused")
    deploy(path)
    made = training(client, "paused")
    (present,) = client.read_deployment_schedules(made.id)
    client.update_deployment_schedule(made.id, present.id, active=False)
    deploy(path)
    assert found(client, "paused") == "paused"
    left = timetable.read(read_consortium(path).home, TRAINING)
    assert all(left.strays(each, ()) for each in coming(client, made.id))  # Prefect's scheduler may race
    client.update_deployment_schedule(made.id, present.id, active=True)
    client.create_deployment_schedules(made.id, [(CronSchedule(cron="0 1 * * *", timezone="UTC"), True)])
    deploy(path)
    assert found(client, "paused") == "at 0 1 * * * and every 7d"
    schedule.unpin(path)
    assert found(client, "paused") == "every 7d"


@pytest.mark.parametrize(
    ("call", "hours"), [("delete_deployment_schedule", "4"), ("create_deployment_schedules", "456")]
)
def test_a_change_that_was_cut_off_between_two_calls_is_no_hand(
    client, deploy, tiny, call, hours, monkeypatch
):
    name, now = call.replace("_", "-"), datetime.now(UTC)
    deploy(path := tiny(name))
    where = training(client, name).id, read_consortium(path).home, TRAINING
    known = timetable.read(*where[1:])
    known = timetable.apply(client, *where, known.pinned(daily_at("12"), now, "a person"))
    with monkeypatch.context() as killed:
        killed.setattr(client, call, interrupt)
        with pytest.raises(KeyboardInterrupt):
            timetable.apply(client, *where, known.pinned(daily_at(hours), now, "a person"))
    left, found = timetable.read(*where[1:]), timetable.found_at(client, where[0])
    assert found not in (daily_at("12"), daily_at(hours))
    assert left.seen(found, now) == left
    assert timetable.apply(client, *where, left).wanted == timetable.found_at(client, where[0])


def test_without_a_record_what_prefect_has_is_respected(client, deploy, tiny, tmp_path):
    path = tiny("lost")
    deploy(path)
    schedule.pin(path, "6h")
    shutil.rmtree(tmp_path / "state")
    deploy(path)
    assert found(client, "lost") == "every 6h"


def test_a_changed_interval_moves_the_coming_runs_and_leaves_a_persons_run(client, deploy, tiny):
    path = tiny("moved", "frequency: {policy: {kind: periodic, days: 1}}")
    deploy(path)
    made = training(client, "moved")
    asked_for = datetime.now(UTC) + timedelta(hours=1)
    from prefect.states import Scheduled

    client.create_flow_run_from_deployment(made.id, state=Scheduled(scheduled_time=asked_for))
    schedule.pin(path, "6h")
    times = coming(client, made.id)
    assert len(times) >= 3
    assert all((time - ANCHOR).total_seconds() % (6 * 3_600) == 0 for time in times)
    assert times[0] - datetime.now(UTC) <= timedelta(hours=6)
    assert asked_for in coming(client, made.id, by_schedule=False)
