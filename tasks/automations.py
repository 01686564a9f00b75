"""What Prefect does by itself for a consortium: find dead runs, and tell a person what is amiss.

Each automation is looked up by its name first, since Prefect would make a second one without a word.
Actions name their type, which Prefect's client leaves out otherwise, and its server then guesses.
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tasks.schedule import AlertConfig

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events import EventTrigger
    from prefect.events.schemas.automations import AutomationCore

SILENT_SECONDS = 75
"""Two heartbeats and a half."""
STUCK_SECONDS = 300
"""How long a run may be about to start."""
ENDS = frozenset(f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed"))
"""How a flow run ends, besides the names of our own."""
OWN_ENDS = frozenset(f"prefect.flow-run.{state}" for state in ("Degraded", "Skipped"))
MESSAGE = """{
  "consortium": %s,
  "run": {{ flow_run.name | tojson }},
  "flow_run_id": {{ flow_run.id | string | tojson }},
  "state": {{ flow_run.state.name | tojson }},
  "reason": {{ flow_run.state.message | tojson }}
}"""
"""What the webhook gets, less the consortium: a template that Prefect fills and does not escape."""


def ensure_automations(
    client: "SyncPrefectClient", consortium: str, deployment_ids: Sequence[Any], alerts: AlertConfig
) -> None:
    """The automations of the consortium's deployments, each made once, and changed after where it differs.

    Without a webhook, actions that a person added in Prefect's page stay.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import CallWebhook, ChangeFlowRunState, DoNothing

    runs = [f"prefect.deployment.{each}" for each in deployment_ids]
    told: list[Any] = [DoNothing(type="do-nothing")]
    block = _webhook(client, consortium, alerts)
    if alerts.webhook is not None:
        payload = MESSAGE % json.dumps(consortium)
        told = [CallWebhook(type="call-webhook", block_document_id=block, payload=payload)]
    for name, states in (
        ("failed", ("Failed", "Crashed")),
        ("late", ("Late",)),
        ("went on without somebody", ("Degraded",)),
        ("waits for a person", ("Paused",)),
    ):
        _ensure(client, f"{consortium}: a run {name}", _when(runs, *states), told, block)
    for name, trigger in (
        ("silent: no heartbeat", _silent(runs, {"heartbeat"}, SILENT_SECONDS)),
        ("stuck: never began", _silent(runs, {"Pending"}, STUCK_SECONDS)),
    ):
        crashed = ChangeFlowRunState(type="change-flow-run-state", state=StateType.CRASHED, message=name)
        _ensure(client, f"{consortium}: mark a run crashed, {name.split(':')[0]}", trigger, [crashed])


def _when(runs: list[str], *states: str) -> "EventTrigger":
    """As soon as a run of these deployments comes into one of the states."""
    from prefect.events import EventTrigger
    from prefect.events.schemas.automations import Posture
    from prefect.events.schemas.events import ResourceSpecification

    return EventTrigger(
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
        for_each={"prefect.resource.id"},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        match_related=_of(runs),
        expect={f"prefect.flow-run.{state}" for state in states},
    )


def _silent(runs: list[str], after: set[str], seconds: int) -> "EventTrigger":
    """When a run of these deployments was heard of, and then not again for so long."""
    from prefect.events import EventTrigger
    from prefect.events.schemas.automations import Posture
    from prefect.events.schemas.events import ResourceSpecification

    return EventTrigger(
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=seconds),
        after={f"prefect.flow-run.{state}" for state in after},
        for_each={"prefect.resource.id"},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        match_related=_of(runs),
        expect={*ENDS, *OWN_ENDS, "prefect.flow-run.heartbeat"},
    )


def _of(runs: list[str]) -> Any:
    from prefect.events.schemas.events import ResourceSpecification

    return ResourceSpecification({"prefect.resource.role": "deployment", "prefect.resource.id": runs})


def _webhook(client: "SyncPrefectClient", consortium: str, alerts: AlertConfig) -> Any:
    """The id of the block that knows the address, if there is one; Prefect keeps it encrypted."""
    from prefect.blocks.webhook import Webhook
    from prefect.exceptions import ObjectNotFound

    name = f"chorus-{consortium}"
    if alerts.webhook is not None:
        url = alerts.webhook.get_secret_value()
        return Webhook(url=url, allow_private_urls=True).save(name, overwrite=True)
    try:
        return client.read_block_document_by_name(name, "webhook").id
    except ObjectNotFound:
        return None


def _ensure(
    client: "SyncPrefectClient", name: str, trigger: "EventTrigger", actions: list[Any], block: Any = None
) -> None:
    """The automation as wanted: a change, even to the same, drops what its trigger has counted."""
    from prefect.events.schemas.automations import AutomationCore

    present = client.read_automations_by_name(name)
    if present and actions[0].type == "do-nothing":
        found = present[0].actions
        theirs = [each for each in found if each.type != "call-webhook" or each.block_document_id != block]
        actions = theirs or actions
    wanted = AutomationCore(name=name, description="Made by chorus.", trigger=trigger, actions=actions)
    if not present:
        client.create_automation(wanted)
    elif _does(present[0]) != _does(wanted):
        client.update_automation(present[0].id, wanted)


def _does(automation: "AutomationCore") -> tuple[dict[str, Any], list[Any]]:
    return automation.trigger.model_dump(exclude={"id"}), automation.actions
