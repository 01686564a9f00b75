"""Deployments and automations at a real Prefect server."""

import http.server
import json
import threading
import time
from pathlib import Path

import pytest

from federation.errors import BadInput, ChorusError
from flows import operate
from flows.consortium import read_consortium
from flows.scheduled import train_on_schedule
from tasks import server
from tasks.deployments import ensure_pool
from tasks.runs import RunFolder, runs_folder

FLOWS = ["train-on-schedule", "evaluate-champion", "adjust-frequency", "housekeeping"]


def training(client, name):
    return client.read_deployment_by_name(f"train-on-schedule/{name}")


def test_a_deploy_makes_what_the_configuration_says(client, deploy, tiny):
    path = tiny("first", "schedule: {cron: '0 3 * * 1', timezone: Europe/Berlin}")
    assert deploy(path) == [f"{flow}/first" for flow in FLOWS]
    made = training(client, "first")
    assert made.entrypoint == "flows.scheduled.train_on_schedule"
    assert made.tags == ["chorus", "consortium:first"]
    where = {"consortium": str(path), "data": None, "folder": str(Path.cwd())}
    assert made.parameters == {"order": {**where, "always": False}}
    assert "east, north, south" in made.description
    assert made.work_pool_name == "chorus"
    assert made.job_variables["env"].items() >= server.PATIENT.items()  # a worker has other settings
    assert made.global_concurrency_limit.limit == 1
    assert made.concurrency_options.collision_strategy.value == "CANCEL_NEW"
    (schedule,) = client.read_deployment_schedules(made.id)
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 3 * * 1", "Europe/Berlin")
    assert client.read_work_pool("chorus").type == "process"


def test_a_second_deploy_changes_nothing(client, deploy, tiny):
    path = tiny("twice")
    deploy(path)
    before = training(client, "twice")
    made = automations(client, "twice")
    deploy(path)
    after = training(client, "twice")
    assert after == before
    assert automations(client, "twice") == made  # not even written anew, which forgets what was counted
    assert len(made) == 6


def test_a_flow_run_is_named_by_its_consortium_not_by_the_file(client, deploy, tiny, tmp_path):
    from prefect.flow_engine import run_flow

    path = tiny("shops").rename(tmp_path / "config.yaml")
    deploy(path)
    begun = client.create_flow_run_from_deployment(training(client, "shops").id)
    order = {**begun.parameters["order"], "consortium": tmp_path / "gone.yaml"}
    run_flow(train_on_schedule, flow_run=begun, parameters={"order": order}, return_type="state")
    assert client.read_flow_run(begun.id).name == "train shops"


def automations(client, name):
    """What the server knows of the consortium's automations, with the time of the last change."""
    found = client.request("POST", "/automations/filter", json={}).json()
    return sorted(
        (each for each in found if each["name"].startswith(f"{name}: ")), key=lambda each: each["id"]
    )


def test_the_server_refuses_parameters_that_are_none(client, deploy, tiny):
    from prefect.exceptions import PrefectHTTPStatusError

    path = tiny("strict")
    deploy(path)
    order = training(client, "strict").parameters["order"]
    for more in ({"rounds": 3}, {"redo": 7}):
        with pytest.raises(PrefectHTTPStatusError, match="409"):
            client.create_flow_run_from_deployment(
                training(client, "strict").id, parameters={"order": {**order, **more}}
            )


def test_what_a_person_set_in_the_page_outlives_a_deploy(client, deploy, tiny):
    from prefect.client.schemas.actions import DeploymentUpdate

    path = tiny("page")
    deploy(path)
    made = training(client, "page")
    order = {**made.parameters["order"], "redo": "north", "folder": "/elsewhere"}
    client.update_deployment(made.id, DeploymentUpdate(parameters={"order": order}))
    deploy(path)
    assert training(client, "page").parameters["order"] == {**order, "folder": str(Path.cwd())}


@pytest.fixture
def listener():
    """A webhook's other end: what was posted."""
    heard = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield heard, f"http://127.0.0.1:{listening.server_port}/hook"
        listening.shutdown()
        thread.join()


def test_failed_late_degraded_and_paused_runs_call_the_webhook(client, deploy, tiny, listener):
    from prefect.states import Completed, Failed, Paused, Scheduled

    heard, url = listener
    path = tiny("alarm", f"alerts: {{webhook: '{url}'}}")
    deploy(path)
    made = training(client, "alarm")
    time.sleep(1.5)  # the server's triggers read new automations as events
    wanted = {
        "Failed": Failed(message='TooFew: needs "3",\nnot 2'),
        "Degraded": Completed(name="Degraded", message="without north"),
        "Late": Scheduled(name="Late"),
        "Paused": Paused(),
        "Completed": Completed(),
    }
    for state in wanted.values():
        run = client.create_flow_run_from_deployment(made.id)
        client.set_flow_run_state(run.id, state, force=True)
    deadline = time.monotonic() + 40
    while len({each["state"] for each in heard}) < 4 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert {each["state"] for each in heard} == {"Failed", "Degraded", "Late", "Paused"}
    assert {each["reason"] for each in heard} >= {'TooFew: needs "3",\nnot 2', "without north"}
    assert {each["consortium"] for each in heard} == {"alarm"}
    assert all(client.read_flow_run(each["flow_run_id"]).name == each["run"] for each in heard)
    from prefect.blocks.webhook import Webhook

    assert Webhook.load("chorus-alarm").url.get_secret_value() == url


def test_without_a_webhook_a_persons_actions_stay(client, deploy, tiny):
    from prefect.events.actions import PauseDeployment
    from prefect.events.schemas.automations import AutomationCore

    path = tiny("own")
    deploy(path)
    (late,) = client.read_automations_by_name("own: a run late")
    own = PauseDeployment(
        type="pause-deployment", source="selected", deployment_id=training(client, "own").id
    )
    edited = AutomationCore(name=late.name, trigger=late.trigger, actions=[own])
    client.update_automation(late.id, edited)
    deploy(path)
    (after,) = client.read_automations_by_name("own: a run late")
    assert after.actions == [own]


def test_a_webhook_that_left_the_file_is_not_called_any_more(client, deploy, tiny):
    from prefect.events.actions import DoNothing, PauseDeployment
    from prefect.events.schemas.automations import AutomationCore

    deploy(tiny("quiet", "alerts: {webhook: 'http://127.0.0.1:9/hook'}"))
    (late,) = client.read_automations_by_name("quiet: a run late")
    own = PauseDeployment(
        type="pause-deployment", source="selected", deployment_id=training(client, "quiet").id
    )
    edited = AutomationCore(name=late.name, trigger=late.trigger, actions=[*late.actions, own])
    client.update_automation(late.id, edited)
    deploy(tiny("quiet"))
    names = ("late", "failed")
    late, failed = (client.read_automations_by_name(f"quiet: a run {name}")[0] for name in names)
    assert (late.actions, failed.actions) == ([own], [DoNothing(type="do-nothing")])


def test_a_training_that_ended_while_it_waited_for_a_person_is_retried(client, deploy, tiny, monkeypatch):
    from prefect.states import Paused

    from tasks.flow_runs import mark_tagged_crashed

    deploy(path := tiny("asks"))
    asks = client.create_flow_run_from_deployment(training(client, "asks").id, state=Paused())
    consortium = read_consortium(path)
    figures = {"gate": {"waits": True}}
    RunFolder(runs_folder(consortium.home) / "r").note(
        status="finished", flow_run_id=str(asks.id), figures=figures
    )
    with pytest.raises(BadInput, match="'r' is finished"):
        operate.rerun("r", None, path, None, None)
    mark_tagged_crashed(consortium.tags, "the serving process ended")
    assert client.read_flow_run(asks.id).state.name == "Crashed"
    shown = []
    monkeypatch.setattr("tasks.retrying.wait", lambda *_: None)  # no worker is there
    monkeypatch.setattr("flows.tables.show_figures", lambda *told: shown.append(told[0]))
    operate.rerun("r", None, path, None, None)
    assert (client.read_flow_run(asks.id).state.name, shown) == ("AwaitingRetry", [figures])


def test_a_retry_that_finds_nothing_new_says_so(client, deploy, tiny, monkeypatch):
    from prefect.states import Completed, Failed

    from tasks.retrying import wait

    deploy(path := tiny("late"))
    failed = client.create_flow_run_from_deployment(training(client, "late").id, state=Failed())
    skipped = Completed(name="Skipped", message="data and configuration are those of run r")
    folder = RunFolder(runs_folder(read_consortium(path).home) / "late")
    folder.note(status="failed", flow_run_id=str(failed.id))

    def work(client, flow_run_id):
        client.set_flow_run_state(flow_run_id, skipped, force=True)  # as a worker's
        wait(client, flow_run_id)

    monkeypatch.setattr("tasks.retrying.wait", work)
    with pytest.raises(ChorusError, match="ended as Skipped: data and configuration are those of run r"):
        operate.rerun("late", None, path, None, None)
    folder.note(status="skipped", reason="only east has new data")
    with pytest.raises(BadInput, match="'late' is skipped; expected one with a part to redo"):
        operate.rerun("late", None, path, None, None)
    with pytest.raises(BadInput, match="'late' is skipped: only east has new data; expected one that was"):
        operate.resume("late", path, None, None)


def test_an_image_needs_a_pool_that_starts_containers(api, tiny, ends):
    told = ends("deploy", tiny("image"), "--image", "chorus:1", "--pool", "none-such", code=2)
    assert "prefect work-pool create none-such --type docker" in told


@pytest.mark.parametrize("name", ["", " ", "a/b"])
def test_a_pool_has_a_name_that_prefect_takes(name):
    with pytest.raises(BadInput, match=f"--pool: found '{name}', expected a name without"):
        ensure_pool(None, name, None)


def test_a_deploy_prints_a_worker_of_the_same_server(api, tiny, ends):
    told = ends("deploy", tiny("worked"), "--pool", "my nights", code=0)
    assert f"running: PREFECT_API_URL={api} prefect worker start --pool 'my nights'\n" in told


def test_a_deploy_without_a_server_says_what_it_needs(tiny, ends, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "")
    assert "PREFECT_API_URL" in ends("deploy", tiny("alone"), code=2)


def test_cron_and_a_policy_contradict_each_other(tiny, ends):
    path = tiny("both", "schedule: {cron: '0 3 * * *'}\nfrequency: {policy: {kind: plateau}}")
    assert "both say when to train" in ends("check", path, code=2)
