"""A policy's decision, applied: the training's schedule at Prefect follows it, unless it is pinned."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from federation.errors import BadInput
from federation.frequency import Decision, FrequencyConfig, decide
from federation.observation import Observation
from tasks import timetable
from tasks.decisions import Decided, decisions, record
from tasks.deployments import TRAINING, find
from tasks.timetable import Timetable
from tasks.timing import Timing


@task(name="adjust schedule", cache_policy=NO_CACHE)
def adjust(
    home: Path,
    consortium: str,
    config: FrequencyConfig,
    history: Sequence[Observation],
    trouble: str | None = None,
) -> Decided:
    """Decide, apply and record; returns the record. `trouble` says why there is nothing to observe.

    One adjuster at a time: another waits, and then sees what this one did.
    Raises `BadInput` where the training is not deployed.
    """
    with get_client(sync_client=True) as client, timetable.locked(home):
        deployment = find(client, f"{TRAINING}/{consortium}")
        known = timetable.read(home, TRAINING)
        if deployment is None or known is None:
            raise BadInput(f"{consortium}: found no deployed training, expected one: chorus deploy")
        before = known.seen(timetable.found_at(client, deployment.id), datetime.now(UTC))
        last = decisions(home)[-1:]
        decision = _decision(config, before, history, trouble, last[0].state if last else {})
        after = timetable.apply(client, deployment.id, home, TRAINING, _decided(before, decision))
        return record(
            home,
            policy=config.policy.kind,
            old=timetable.text(known.wanted),
            new=timetable.text(after.wanted),
            interval_seconds=after.wanted[0].seconds if after.wanted else None,
            reason=decision.reason,
            observed=len(history),
            newest=history[-1] if history else None,
            state=decision.state,
            flow_run_id=flow_run.id,
        )


def _decision(
    config: FrequencyConfig,
    before: Timetable,
    history: Sequence[Observation],
    trouble: str | None,
    state: dict[str, float],
) -> Decision:
    """The policy's, unless a person or a cron line has decided, or nothing can be known."""
    seconds = before.decided.seconds
    if before.pin is not None:
        since = f"{before.pin.at:%Y-%m-%d %H:%M} UTC"
        reason = f"Pinned at {timetable.text(before.pin.timings)} by {before.pin.by} since {since}."
    elif seconds is None:
        reason = f"The configuration says {before.decided}, which no policy changes."
    elif trouble is not None:
        reason = f"Kept, since nothing can be observed: {trouble}"
    else:
        return decide(config, history, seconds, state)
    return Decision(interval_seconds=seconds or 0.0, reason=reason, state=state)


def _decided(before: Timetable, decision: Decision) -> Timetable:
    if before.pin is not None or before.decided.seconds is None:
        return before
    return before.decide(Timing(seconds=decision.interval_seconds, anchor=before.decided.anchor))
