"""The champion that a training is measured against, and what the gate says when it is done."""

from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from federation.gate import Compared, Verdict, judge
from mlruns_config.champions import Champions
from mlruns_config.tracking import Tracking
from tasks.run import Run
from tasks.runs import RunFolder, all_runs


@task(name="meet champion", cache_policy=NO_CACHE)
def meet_champion(run: Run) -> str | None:
    """The run whose model is the champion now, noted once: a resume is measured against the same one."""
    if "champion" not in run.folder.facts:
        run.folder.note(champion=Champions(run.tracking, run.consortium).run())
    champion: str | None = run.folder.facts["champion"]
    run.say(f"champion: {'none yet' if champion is None else f'that of run {champion}'}")
    return champion


def verdict(run: Run) -> Verdict:
    """What the gate says of the run's model, from its last round's record."""
    champion, last = run.folder.facts["champion"], run.folder.rounds[-1]
    if changed := _changed(Champions(run.tracking, run.consortium), run.folder):
        return Verdict(promote=False, reason=changed)
    if not last["overall"]["consortium"]["queries"]:
        return Verdict(promote=False, reason="Nobody has a user to ask about in the test part: no figures.")
    if champion is None:
        return judge(run.gate, run.policy.minimum, None)
    found = judge(run.gate, run.policy.minimum, _compared(champion, last))
    if found.promote or found.waits:
        return found
    return found.model_copy(update={"reason": found.reason + _ahead(champion, run.folder)})


def settle(version: int, run: Run) -> dict[str, Any]:
    """Promote `version` or keep the champion, and say why: in the registry, the log and Prefect's page."""
    found, champions = verdict(run), Champions(run.tracking, run.consortium)
    if found.promote:
        champions.promote(version, found.reason)
    change = cohort_change(run)
    told = {**found.model_dump(), **change}
    champions.judge(version, found.reason)
    changed = "".join(f" {kind}: {', '.join(names)}." for kind, names in change.items() if names)
    run.tracking.tag(run.folder.facts["mlflow_run_id"], _tags(told))
    state = "promoted" if found.promote else "waits for a person" if found.waits else "not promoted"
    _show(run.name, version, state, f"{found.reason}{changed}")
    run.say(f"version {version} {state}: {found.reason}{changed}")
    return told


def answer(promote: bool, reason: str, tracking: Tracking, name: str, folder: RunFolder) -> dict[str, Any]:
    """The run's figures after a person's answer, which is noted wherever the gate's was.

    A model that was compared with one that is no more the champion is not promoted.
    """
    champions, figures = Champions(tracking, name), folder.facts["figures"]
    version = folder.facts["model_version"]
    said = f"{'A person approved' if promote else 'Not approved'}. {reason}".strip()
    if promote and (changed := _changed(champions, folder)):
        promote, said = False, f"{said} {changed}"
    if promote:
        champions.promote(version, said)
    champions.judge(version, said)
    gate = {**figures["gate"], "promote": promote, "waits": False, "reason": said}
    folder.note(figures={**figures, "gate": gate})
    tracking.tag(folder.facts["mlflow_run_id"], _tags(gate))
    _show(folder.run, version, "promoted" if promote else "not promoted", said)
    return {**figures, "gate": gate, "model_version": version}


def _show(run: str, version: int, state: str, why: str) -> None:
    told = f"Run {run}, version {version}, {state}"
    create_markdown_artifact(f"{told}: {why}", key="gate", description=told)


def _changed(champions: Champions, folder: RunFolder) -> str:
    """That the champion is no more the one with which the run was compared; empty where it is."""
    now = champions.run()
    same = now in (folder.facts["champion"], folder.run)
    return "" if same else f"The champion changed meanwhile, to that of run {now}."


def _ahead(champion: str, folder: RunFolder) -> str:
    """That the champion knew events of the window on which the run of `folder` met it; else empty.

    Where the cuts or the split were others, or the cuts went back, since old events came late.
    """
    now = folder.facts
    then = next((each.facts for each in all_runs(folder.home) if each.run == champion), now)
    if then.get("split") == now.get("split") and then["cuts"][-1:] <= now["cuts"][-1:]:
        return ""
    return (
        " It has learned from events of this window, since its split was another or its test began later, "
        f"which favours it: see `chorus promote {folder.run}`."
    )


def cohort_change(run: Run) -> dict[str, list[str]]:
    """Who `joined` and who `left` the sum of a round since the newest training before; empty if nobody."""
    runs = all_runs(run.folder.home)
    earlier = runs[: [each.run for each in runs].index(run.name)]
    before = next((each for each in reversed(earlier) if each.cohort), run.folder)
    rounds = [(run.folder.among(number), before.among(number)) for number in (0, 1)]
    joined = {name for now, then in rounds for name in now - then}
    left = {name for now, then in rounds for name in then - now}
    return {"joined": sorted(joined), "left": sorted(left)}


def _compared(champion: str, record: dict[str, Any]) -> Compared:
    judged = record["judged"]
    return Compared(
        champion=champion,
        participants=judged["compared"],
        gain=judged.get("gain"),
        gain_error=judged.get("gain_error"),
        worse=judged.get("worse", 0),
        named=tuple(sorted(name for name, told in record["participants"].items() if told.get("worse"))),
    )


def _tags(told: dict[str, Any]) -> dict[str, str]:
    tags = {"chorus.promoted": str(told["promote"]).lower(), "chorus.verdict": told["reason"]}
    return tags | {f"chorus.{kind}": ", ".join(told[kind]) for kind in ("joined", "left") if told[kind]}
