"""The champion on the newest window of the data as they are now, as sums; nothing is trained.

It is each participant's own model of the champion's run, as it lies in its folder.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from feature_store.content import digest
from federation.door import Door, Read
from federation.errors import ChorusError, NothingNew, TooFew, reason, reasons
from federation.plan import RoundPlan
from federation.rounds import Together, together
from mlruns_config.champions import Champions
from mlruns_config.tracking import Tracking
from tasks.doors import open_doors
from tasks.following import readable, told_of
from tasks.membership import Membership
from tasks.news import require_new_window
from tasks.opening import Settings
from tasks.runs import RunFolder, find_run
from tasks.sums import common, cuts_in
from tasks.timetable import interval_tag
from tasks.work import Imported, believed

KIND = "evaluation"


@task(name="evaluate champion", cache_policy=NO_CACHE)
def evaluate_champion(home: Path, memberships: Sequence[Membership], settings: Settings) -> dict[str, Any]:
    """The champion's figures, and who is not in them; at MLflow they are a run of their own.

    Raises `NothingNew` where there is no champion, where it was evaluated on these data before, and where
    fewer than the rounds' minimum have new data since.
    """
    began, tracking = time.monotonic(), Tracking(settings.tracking, home)
    champion = Champions(tracking, settings.name).run()
    if champion is None:
        raise NothingNew("there is no champion yet")
    folder = find_run(home, champion)
    if folder.facts.get("split", memberships[0].split.kind) != memberships[0].split.kind:
        raise NothingNew(
            f"the champion of run {champion} was trained under another split; see `chorus promote`"
        )
    with open_doors(home, memberships) as doors:
        versions, lost = _versions(doors, settings)
        run = f"{KIND}-{_digest(champion, versions)}"
        if tracking.is_finished(run):
            raise NothingNew(f"the champion of run {champion} was evaluated on these data before")
        require_new_window(folder, versions, settings.rounds.minimum)
        folder.evaluate_on(versions)
        reply, silent = _judged(doors, run, versions, folder, settings)
        told = dict(common(reply))
        told |= {"seconds": time.monotonic() - began, "participants": len(reply.cohort)}
        told |= {f"bytes_{way}": sum(getattr(reply, f"bytes_{way}").values()) for way in ("up", "down")}
        summed = {name: versions[name] for name in reply.cohort}
        _log(tracking, run, champion, told, summed, settings, interval_tag(home))
        _forget(doors, run, settings)
    return {"run": run, "champion": champion, "figures": told, "lost": {**lost, **silent}}


def _versions(doors: Mapping[str, Door], settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """Each participant's data version after an import, and why the others have none."""
    found, lost = {}, {}
    for name, door in doors.items():
        try:
            agreed, seconds = {"agreed": settings.agreed}, settings.rounds.deadline_seconds
            told = door.ask("prepare", agreed, deadline_seconds=seconds)
            found[name] = believed(name, "its data", Imported, told)["version"]
        except ChorusError as error:
            lost[name] = reason(name, error)
    if len(found) < settings.rounds.needed(len(doors)):
        raise TooFew(reasons(lost))
    return found, lost


def _judged(
    doors: Mapping[str, Door], run: str, versions: Mapping[str, str], folder: RunFolder, settings: Settings
) -> tuple[Together, dict[str, str]]:
    """Agree on the newest window, then add up how the champion did there; and who is not in that, and why."""
    plan = RoundPlan(
        run=run,
        number=0,
        cohort=tuple(versions),
        deadline_seconds=settings.rounds.deadline_seconds,
        seed=settings.seed,
    )
    cuts, silent = list[str](), dict[str, str]()
    known = told_of(settings.catalogue, None, digest(settings.content))
    read = readable(settings.catalogue, None, None)
    if folder.facts["cuts"]:
        newest = {name: {"run": run, "version": version, **known} for name, version in versions.items()}
        agreed = together(doors, plan, "cuts", newest.__getitem__, settings.rounds, read=read)
        cuts, silent = cuts_in(agreed), _lost(agreed)
        plan = plan.model_copy(update={"cohort": agreed.cohort})
    each = {"run": run, "number": 0, "cuts": cuts, "champion": folder.run}
    each |= {"learned": folder.part(1), "learned_cuts": folder.facts["cuts"]}
    each |= {"windows": folder.facts.get("windows"), **known}
    asked = {name: {**each, "version": version} for name, version in versions.items()}
    silent |= _refresh(doors, plan, asked, read)
    plan = plan.model_copy(update={"cohort": tuple(name for name in plan.cohort if name not in silent)})
    read = readable(settings.catalogue, None, folder.opened)
    judge = together(doors, plan, "judge", asked.__getitem__, settings.rounds, read=read)
    return judge, silent | _lost(judge)


def _lost(reply: Together) -> dict[str, str]:
    """Who is not in the sums, and why; of whom that exposed, that too."""
    exposed = "; its terms can be inferred"
    return {name: why + exposed * (name in reply.exposed) for name, why in reply.lost.items()}


def _forget(doors: Mapping[str, Door], run: str, settings: Settings) -> None:
    """Once it is over, and never repeated: until then participants remember with whom they were summed."""
    for door in doors.values():
        with suppress(ChorusError):
            door.ask("forget", {"run": run}, deadline_seconds=settings.rounds.deadline_seconds)


def _refresh(
    doors: Mapping[str, Door], plan: RoundPlan, asked: Mapping[str, Mapping[str, Any]], read: Read
) -> dict[str, str]:
    """Let one after another make its model anew, since that solves: who could not, and why.

    What it listed in an evaluation that was cut off is dropped before.
    """
    lost, listed = {}, {"run": plan.run, "number": plan.number}
    for name in plan.cohort:
        try:
            doors[name].ask("forget", listed, deadline_seconds=plan.deadline_seconds)
            doors[name].ask("refresh", asked[name], read=read, deadline_seconds=plan.deadline_seconds)
        except ChorusError as error:
            lost[name] = reason(name, error)
    return lost


def _log(
    tracking: Tracking,
    run: str,
    champion: str,
    told: Mapping[str, float],
    summed: Mapping[str, str],
    settings: Settings,
    interval: dict[str, str],
) -> None:
    params = {"consortium": settings.name}
    tags = {"chorus.kind": KIND, "chorus.champion": champion, **interval}
    run_id = tracking.start_or_continue(run, f"{settings.name} {run}", params, tags)
    tracking.log_inputs(run_id, summed, KIND)
    tracking.log_metrics(run_id, 0, told)
    tracking.finish(run_id, "FINISHED")


def _digest(champion: str, versions: Mapping[str, str]) -> str:
    told = json.dumps([champion, sorted(versions.items())])
    return hashlib.sha256(told.encode()).hexdigest()[:12]
