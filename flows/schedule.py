"""`chorus schedule show | pin | unpin | history`: what runs when, why, and an operator's word on it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from federation.errors import BadInput
from flows import tables
from flows.consortium import Consortium, read_consortium
from tasks import locks, server, timetable
from tasks.deployments import TRAINING
from tasks.timetable import Timetable
from tasks.timing import parse_timing

FLOWS = (TRAINING, "evaluate-champion", "adjust-frequency", "housekeeping")
Change = Callable[[Timetable], Timetable]


def show(path: Path, json: Path | None) -> None:
    """Each deployment's schedule: configured, decided, pinned, and what Prefect has."""
    consortium = read_consortium(path)
    with server_client(consortium) as client:
        known = {flow: timetable.read(consortium.home, flow) for flow in FLOWS}
        told = {flow: _told(client, consortium, flow, each) for flow, each in known.items() if each}
    tables.show_schedule(told, client is not None, json)


def pin(path: Path, text: str) -> None:
    """Train at the schedule in `text` from now on, whatever policies say, until it is unpinned."""
    consortium = read_consortium(path)
    anchor, zone = consortium.schedule.anchor, consortium.schedule.timezone

    def pinned(table: Timetable) -> Timetable:
        return table.pinned((parse_timing(text, anchor, zone),), datetime.now(UTC), "chorus schedule pin")

    _change(consortium, pinned)


def unpin(path: Path) -> None:
    """Train as configured, or as a policy decided last."""
    _change(read_consortium(path), Timetable.unpinned)


def history(path: Path, json: Path | None) -> None:
    """All decisions and pins, oldest first, each with its reason."""
    from tasks.decisions import decisions

    tables.show_decisions(
        [each.model_dump(mode="json") for each in decisions(read_consortium(path).home)], json
    )


def server_url(consortium: Consortium) -> str | None:
    """The Prefect server that the configuration names, or the environment, or that serves here."""
    configured = consortium.prefect_api_url or os.environ.get("PREFECT_API_URL")
    return configured or locks.served(consortium.home)


@contextmanager
def server_client(consortium: Consortium) -> Iterator[Any]:
    """A client of the server in use; none where nothing serves. Raises `ChorusError` where it is silent."""
    url = server_url(consortium)
    if url is None:
        yield None
        return
    with server.prefect_server(consortium.home, url):
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            yield client


def _change(consortium: Consortium, change: Change) -> None:
    """Change the training's timetable, and Prefect's schedule with it where a server is there."""
    with server_client(consortium) as client, timetable.locked(consortium.home):
        from tasks.decisions import decisions, record  # Prefect reads its settings on import, so only now
        from tasks.deployments import find

        before = timetable.read(consortium.home, TRAINING)
        if before is None:
            raise BadInput(
                f"{consortium.name}: found no schedule, expected a deployment: chorus serve, or deploy"
            )
        deployment = client and find(client, f"{TRAINING}/{consortium.name}")
        if deployment:
            before = before.seen(timetable.found_at(client, deployment.id), datetime.now(UTC))
        after = change(before)
        timetable.save(consortium.home, TRAINING, after)
        if deployment:
            timetable.apply(client, deployment.id, consortium.home, TRAINING, after)
        if after.pin != before.pin:
            learned = [each.state for each in decisions(consortium.home)[-1:]]
            record(consortium.home, **_operators(before, after), state=dict(*learned))
    later = "" if deployment else " when it is next served or deployed"
    tables.console.print(f"{TRAINING}: {timetable.text(after.wanted)}{later}", highlight=False)


def _operators(before: Timetable, after: Timetable) -> dict[str, Any]:
    pinned = after.pin is not None
    return {
        "policy": "operator",
        "old": timetable.text(before.wanted),
        "new": timetable.text(after.wanted),
        "interval_seconds": after.wanted[0].seconds if after.wanted else None,
        "reason": "Pinned by chorus schedule pin." if pinned else "Unpinned; the policy decides again.",
        "observed": 0,
        "newest": None,
    }


def _told(client: Any, consortium: Consortium, flow: str, known: Timetable) -> dict[str, Any]:
    from tasks.deployments import find

    deployment = client and find(client, f"{flow}/{consortium.name}")
    found = timetable.found_at(client, deployment.id) if deployment else None
    now = known.seen(found, datetime.now(UTC))
    return {
        "configured": str(now.configured),
        "decided": str(now.decided),
        "pinned": timetable.text(now.pin.timings) if now.pin else None,
        "pinned_by": now.pin.by if now.pin else None,
        "prefect": None if found is None else timetable.text(found),
        "paused": bool(deployment and deployment.paused),
    }
