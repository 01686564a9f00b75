"""A clock that has stepped back: what was later than now is on record already."""

import os
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.importing import import_events
from feature_store.partitions import Store
from feature_store.sources import Columns, Source
from federation.bandit import Bandit
from federation.durations import DAY
from federation.errors import NothingNew
from federation.frequency import Drift, FrequencyConfig, decide
from federation.observation import Observation
from federation.plateau import Plateau
from federation.policy import RoundPolicy
from flows.consortium import read_consortium
from tasks import adjusting, decisions, timetable
from tasks.deployments import schedule_now
from tasks.runs import RunFolder, runs_folder


def seen(day):
    told = {
        "metric": 0.2,
        "metric_error": 0.01,
        "gain": 0.01,
        "gain_error": 0.001,
        "drift": 0.0,
        "unseen": 0.0,
    }
    return Observation(at=day * DAY, trained=True, interval_seconds=2 * DAY, **told)


@settings(max_examples=40)
@given(
    st.sampled_from([Plateau(), Drift(), Bandit()]),
    st.lists(st.floats(50, 100), min_size=1, max_size=6),
    st.lists(st.floats(0, 49), min_size=1, max_size=6),
)
def test_a_policy_that_remembers_what_is_to_come_stays_within_its_bounds(policy, before, after):
    config = FrequencyConfig(policy=policy)
    first = decide(config, [seen(day) for day in sorted(before)], 2 * DAY)
    history = [seen(day) for day in sorted(before + after)]
    again = decide(config, history, first.interval_seconds, first.state)
    assert policy.shortest <= again.interval_seconds <= policy.longest_days * DAY
    assert again.reason
    if policy.kind == "bandit":
        assert (again.interval_seconds, again.state) == (first.interval_seconds, first.state)
        assert again.reason == "no training since the last decision"


def test_decisions_go_on_and_the_interval_is_kept(client, deploy, tiny, monkeypatch):
    path = tiny("clock", "frequency: {policy: {kind: bandit, shortest_days: 1, longest_days: 30}}")
    deploy(path)
    home = read_consortium(path).home
    config = FrequencyConfig(policy=Bandit(longest_days=30))
    first = adjusting.adjust.fn(home, "clock", config, [seen(day) for day in (8, 9)])
    back = SimpleNamespace(now=lambda zone: datetime.now(zone) - timedelta(days=3))
    for module in (adjusting, decisions, timetable):
        monkeypatch.setattr(module, "datetime", back)
    second = adjusting.adjust.fn(home, "clock", config, [seen(day) for day in (5, 6, 8, 9)])
    assert second.at < first.at
    assert (second.number, second.new, second.reason) == (2, first.new, "no training since the last decision")
    assert decisions.decisions(home) == [first, second]
    deployment = client.read_deployment_by_name("train-on-schedule/clock")
    assert timetable.text(timetable.found_at(client, deployment.id)) == first.new


def test_prefect_makes_no_moment_twice(client, deploy, tiny):
    from prefect.states import Completed

    path = tiny("again", "frequency: {policy: {kind: periodic, days: 0.125}}")
    deploy(path)
    deployment = client.read_deployment_by_name("train-on-schedule/again")
    schedule_now(client, deployment.id, (datetime.now(UTC) - timedelta(days=1)).isoformat())
    made = runs(client, deployment.id)
    client.set_flow_run_state(made[0].id, Completed(), force=True)
    schedule_now(client, deployment.id, (datetime.now(UTC) - timedelta(days=1)).isoformat())
    moments = [each.expected_start_time for each in runs(client, deployment.id)]
    assert made[0].expected_start_time in moments
    assert len(moments) == len({*moments})


def runs(client, deployment_id):
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId

    chosen = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
    return sorted(client.read_flow_runs(flow_run_filter=chosen), key=lambda each: each.expected_start_time)


def test_what_was_trained_tomorrow_is_not_trained_again_today(tmp_path):
    from tasks.news import require_news

    versions = dict.fromkeys("abc", "1")
    known = {"versions": versions, "fingerprint": "f", "status": "finished"}
    RunFolder(runs_folder(tmp_path) / "first").note(run="first", created_at="2026-03-02T00:00:00", **known)
    now = RunFolder(runs_folder(tmp_path) / "now")
    now.note(run="now", created_at="2026-03-01T00:00:00", status="running")
    told = {"fingerprint": "f", "policy": RoundPolicy(), "content_digest": None}
    run = SimpleNamespace(folder=now, versions=versions, **told)
    with pytest.raises(NothingNew, match="those of run first"):
        require_news(run)


def test_an_import_does_not_take_for_future_what_was_past(tmp_path):
    store, day = Store(tmp_path / "store"), datetime.now(UTC) + timedelta(days=3)
    source = Source(path=str(tmp_path / "*.csv"), columns=Columns(user="u", item="i", time="t"))
    (tmp_path / "a.csv").write_text(f"u,i,t\nann,x,{day - timedelta(days=9):%Y-%m-%dT%H:%M:%S}\n")
    import_events(store, "shop", source)
    (tmp_path / "b.csv").write_text(f"u,i,t\nann,y,{day:%Y-%m-%dT%H:%M:%S}\n")
    manifest = store.folder("shop") / "manifest.json"
    os.utime(manifest, (time.time(), day.timestamp()))
    assert import_events(store, "shop", source).added_rows == 1
    (tmp_path / "c.csv").write_text(f"u,i,t\nann,z,{day + timedelta(days=3):%Y-%m-%dT%H:%M:%S}\n")
    assert import_events(store, "shop", source).added_rows == 0
