"""A participant's own work: one Prefect task for each participant and round, kept where it was done.

What a task returns is what the participant discloses; rows, updates and keys never pass through Prefect.
"""

from collections.abc import Mapping
from typing import Any

from prefect import task
from prefect.futures import PrefectFuture

from federation.errors import Lost
from tasks.grown import ranker
from tasks.run import Run

Disclosed = dict[str, Any]
Work = tuple[str, int, str, list[str], Run]
"""What a participant's work of a round is named by: name, round, data version, cuts, and the run."""


def _work_key(_: Any, arguments: dict[str, Any]) -> str:
    """The same work of the same run on the same data: a rerun takes it as done, unless it is to be redone."""
    run: Run = arguments["run"]
    again = run.folder.facts["created_at"] if run.redo != arguments["name"] else str(run.began_at)
    parts = (
        run.name,
        arguments["number"],
        arguments["name"],
        arguments["version"][:16],
        run.fingerprint,
        again,
    )
    return "-".join(str(part) for part in parts)


def _only_if_lost(_task: Any, _run: Any, state: Any) -> bool:
    """Ask again who ended or was silent; a refusal or bad input would only be repeated."""
    return isinstance(state.result(raise_on_failure=False), Lost)


once_more: dict[str, Any] = {
    "retries": 1,
    "retry_delay_seconds": 0.5,
    "retry_condition_fn": _only_if_lost,
    "persist_result": True,
}


@task(
    name="prepare participant",
    task_run_name="prepare {name}",
    **{**once_more, "persist_result": False},
    cache_policy=None,
)
def prepare_participant(name: str, run: Run) -> Disclosed:
    """Import, check and clean the participant's event files; returns its disclosures and data version.

    A run that is resumed goes on with the version that it began with.
    """
    disclosed = run.ask(name, "prepare", version=run.versions.get(name))
    rows = f"{disclosed['rows']:,} events, " if "rows" in disclosed else ""
    run.say(f"{name}: {rows}data version {disclosed['version'][:12]}")
    return disclosed


@task(
    name="train participant",
    task_run_name="train {name}, round {number}",
    cache_key_fn=lambda context, arguments: "train-" + _work_key(context, arguments),
    **once_more,
)
def train_participant(name: str, number: int, version: str, cuts: list[str], run: Run) -> Disclosed:
    """The participant's local work of a round, on its own partitions; its update is kept at its side."""
    disclosed = run.ask(name, "train", number=number, version=version, cuts=cuts)
    run.show(f"round {number}: {name} has trained")
    return disclosed


@task(
    name="find candidates",
    task_run_name="find candidates at {name}, round {number}",
    cache_key_fn=lambda context, arguments: "tabulate-" + _work_key(context, arguments),
    **once_more,
)
def tabulate_participant(name: str, number: int, version: str, cuts: list[str], run: Run) -> Disclosed:
    """The participant's candidates with their features, as of each part's beginning; kept at its side."""
    with run.solving:
        disclosed = run.ask(name, "tabulate", number=number, version=version, cuts=cuts)
    run.show(f"round {number}: {name} has found its candidates")
    return disclosed


@task(
    name="score participant",
    task_run_name="score {name}, round {number}",
    cache_key_fn=lambda context, arguments: "score-" + _work_key(context, arguments),
    **once_more,
)
def score_participant(name: str, number: int, version: str, cuts: list[str], run: Run) -> Disclosed:
    """Fit the round's aggregate to the participant, and score its own queries; returns what it discloses."""
    with run.solving:
        told = {"state": ranker(number, run), "champion": run.folder.facts["champion"] if number else None}
        disclosed = run.ask(name, "score", number=number, version=version, cuts=cuts, **told)
    run.show(f"round {number}: {name} has scored its queries")
    return disclosed


def arrived(asked: Mapping[str, PrefectFuture[Disclosed]]) -> tuple[dict[str, Disclosed], dict[str, str]]:
    """What the participants disclosed, and why the others did not: silence is not an error here."""
    results, lost = {}, {}
    for name, future in asked.items():
        future.wait()
        if future.state.is_completed():
            results[name] = future.result()
        else:
            lost[name] = str(future.result(raise_on_failure=False))
    return results, lost
