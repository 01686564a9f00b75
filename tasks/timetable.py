"""A deployment's schedule: what is configured, what a policy decided, what an operator pinned, and Prefect's.

Prefect runs the schedule, but keeps no reason for it; so the record lies in the state folder, written
beside and renamed, under a lock while it is changed.  What Prefect has and nobody here wrote is an
operator's hand in its page, and counts as a pin.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federation.files import read_json, write_json
from federation.frozen import Frozen
from tasks.deployments import TRAINING, schedule_now
from tasks.timing import Timing, read_timing

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule

INTERVAL_TAG = "chorus.interval_seconds"
"""Of a training and an evaluation at MLflow: the interval in force."""
Timings = tuple[Timing, ...]
"""What a deployment has in Prefect: one schedule, or none where it is paused, or what a person made of it."""


class Pin(Frozen):
    """An operator's schedule, which no policy changes."""

    timings: Timings
    at: datetime
    by: str


class Timetable(Frozen):
    """The state of record of one deployment's schedule."""

    configured: Timing
    decided: Timing
    written: tuple[Timings, ...] = ()
    pin: Pin | None = None
    since: datetime | None = None

    @property
    def wanted(self) -> Timings:
        """What Prefect should have: the pin, else what was decided last."""
        return self.pin.timings if self.pin else (self.decided,)

    def strays(self, moment: datetime, found: Timings) -> bool:
        """Whether no schedule names a run at `moment`: neither Prefect's, `found`, nor one that was written.

        Prefect's scheduler may read a schedule just before it is changed, and make its runs just after.
        What was due before the last change is not judged; when a hand has changed it nobody knows.
        """
        by_hand = self._by_hand(found)
        known = (found,) if by_hand else (found, self.wanted, *self.written)
        late = by_hand or (self.since is not None and moment > self.since)
        return late and not any(each.names(moment) for timings in known for each in timings)

    def configure(self, timing: Timing) -> "Timetable":
        """After a new deploy: a changed configuration is a decision, an unchanged one changes nothing."""
        if timing == self.configured:
            return self
        return self.model_copy(update={"configured": timing, "decided": timing})

    def seen(self, found: Timings | None, now: datetime) -> "Timetable":
        """After a look at Prefect: what is there and was not written from here is the operator's."""
        if found is None or not self._by_hand(found):
            return self
        return self.pinned(found, now, "Prefect's page").model_copy(update={"since": now})

    def _by_hand(self, found: Timings) -> bool:
        known = self.written if self.pin is None else (*self.written, self.pin.timings)
        return bool(self.written) and found not in known

    def pinned(self, timings: Timings, now: datetime, by: str) -> "Timetable":
        """With the operator's schedule."""
        return self.model_copy(update={"pin": Pin(timings=timings, at=now, by=by)})

    def unpinned(self) -> "Timetable":
        """Back to what was configured or decided."""
        return self.model_copy(update={"pin": None})

    def decide(self, timing: Timing) -> "Timetable":
        """With a policy's decision, which a pin hides."""
        return self.model_copy(update={"decided": timing})

    def writing(self, *timings: Timings) -> "Timetable":
        """With what Prefect may have from here: before a write the old and the new, afterwards the new."""
        return self.model_copy(update={"written": tuple(dict.fromkeys(timings))})


def text(timings: Timings) -> str:
    """Schedules as a person reads them."""
    return " and ".join(map(str, timings)) or "paused"


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """One change of the timetable at a time, of all processes on this state folder; the others wait."""
    folder = home / "coordinator" / "schedule"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read(home: Path, flow: str) -> Timetable | None:
    """The timetable on record of the deployment of `flow`; none before the first deploy."""
    path = _path(home, flow)
    return read_json(path, Timetable.model_validate_json) if path.is_file() else None


def interval_tag(home: Path) -> dict[str, str]:
    """For MLflow, at which interval is trained; empty where nothing is deployed, or a cron line says when."""
    known = read(home, TRAINING)
    seconds = known.wanted[0].seconds if known is not None and known.wanted else None
    return {} if seconds is None else {INTERVAL_TAG: str(seconds)}


def save(home: Path, flow: str, timetable: Timetable) -> None:
    """Put the timetable on record, in one step."""
    write_json(_path(home, flow), json.loads(timetable.model_dump_json()))


def found_at(client: "SyncPrefectClient", deployment_id: Any) -> Timings:
    """The active schedules of the deployment, in a fixed order."""
    return _active(client.read_deployment_schedules(deployment_id))


def apply(
    client: "SyncPrefectClient", deployment_id: Any, home: Path, flow: str, timetable: Timetable
) -> Timetable:
    """Make Prefect's schedule the wanted one, if it is not; returns the timetable as it is on record then.

    What is about to be written is on record first, so that a kill in between is not taken for a hand.
    """
    present, wanted = client.read_deployment_schedules(deployment_id), timetable.wanted
    if _active(present) != wanted:
        timetable = timetable.model_copy(update={"since": datetime.now(UTC)})
        save(home, flow, timetable.writing(*timetable.written, *_between(present, wanted)))
        _write(client, deployment_id, present, wanted)
    done = timetable.writing(wanted)
    save(home, flow, done)
    return done


def _active(schedules: "list[DeploymentSchedule]", *more: Timing) -> Timings:
    timings = [read_timing(each.schedule) for each in schedules if each.active]
    return tuple(sorted((*timings, *more), key=str))


def _between(present: "list[DeploymentSchedule]", wanted: Timings) -> list[Timings]:
    """What Prefect has before `_write`, after each of its calls, and at its end."""
    calls = max(len(present), len(wanted))
    return [_active(present[done:], *wanted[:done]) for done in range(calls + 1)]


def _write(
    client: "SyncPrefectClient", deployment_id: Any, present: "list[DeploymentSchedule]", wanted: Timings
) -> None:
    """The schedules in place where there are as many: a schedule's id is what keeps runs from doubling."""
    now = datetime.now(UTC)
    for schedule, timing in zip(present, wanted, strict=False):
        client.update_deployment_schedule(deployment_id, schedule.id, active=True, schedule=timing.schedule())
    for schedule in present[len(wanted) :]:
        client.delete_deployment_schedule(deployment_id, schedule.id)
    for timing in wanted[len(present) :]:
        client.create_deployment_schedules(deployment_id, [(timing.schedule(), True)])
    schedule_now(client, deployment_id, now.isoformat())


def _path(home: Path, flow: str) -> Path:
    return home / "coordinator" / "schedule" / f"{flow}.json"
