"""A participant's own work: one Prefect task for each participant and round, kept where it was done.

What a task returns is what the participant discloses; rows, updates and keys never pass through Prefect.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from prefect import task
from prefect.futures import PrefectFuture
from prefect.states import State, get_state_result
from pydantic import ConfigDict, Field, ValidationError, model_validator

from feature_store.cleaning import CleaningReport
from federation.errors import Lost, Refused, reason
from federation.frozen import Frozen
from tasks.grown import ranker
from tasks.learned import best
from tasks.run import Run

Disclosed = dict[str, Any]
Figures = dict[Annotated[str, Field(pattern="^[a-z0-9_]{1,99}$")], float]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]


class Imported(Frozen):
    """What a participant tells of its data: their version, and how many they are where it discloses that."""

    version: Annotated[str, Field(pattern="^[0-9a-f-]+$", max_length=200)]
    rows: Count | None = None
    unlisted: Count | None = None
    users: Count | None = None
    cleaning: CleaningReport | None = None

    @model_validator(mode="after")
    def _of_the_rows(self) -> "Imported":
        if (self.unlisted or 0) > (self.rows or 0):
            raise ValueError("unlisted: expected no more than rows")
        return self


class Trained(Frozen):
    """Of its training a participant tells nothing; how long it was waited for is known."""

    seconds: float


class Tabulated(Frozen):
    """Whether a participant has rows that teach the ranker."""

    seconds: float
    teaches: bool


class Scored(Frozen):
    """What a participant may disclose of its scores: each arm's figures by name, and what it chose."""

    model_config = ConfigDict(allow_inf_nan=True)  # where nobody was asked a figure is NaN

    seconds: float
    alone: Figures | None = None
    consortium: Figures | None = None
    champion: Figures | None = None
    popularity: Figures | None = None
    reachable: Figures | None = None
    chosen: dict[str, int | float | str] | None = None
    worse: bool = False


@dataclass(frozen=True)
class Work:
    """A participant's work of a round; quoted as an argument of a task, else Prefect looks into all of it."""

    name: str
    number: int
    version: str
    cuts: list[str]
    run: Run

    @property
    def key(self) -> str:
        """Of the same work of the same run on the same data: a rerun takes it as done, unless redone."""
        run = self.run
        again = run.created_at if run.redo != self.name else str(run.began_at)
        parts = (run.name, self.number, self.name, self.version[:16], run.fingerprint, again)
        return "-".join(str(part) for part in parts)

    def ask(self, job: str, **more: Any) -> Disclosed:
        """What the participant discloses when it has done `job`, and the `seconds` that it was waited for."""
        told, began = {"number": self.number, "version": self.version, "cuts": self.cuts}, time.monotonic()
        disclosed = self.run.ask(self.name, job, **told, **more)
        return {**disclosed, "seconds": time.monotonic() - began}

    def show(self, text: str) -> None:
        """Tell whoever watches."""
        self.run.show(f"round {self.number}: {self.name} {text}")


def _only_if_lost(_task: Any, _run: Any, state: Any) -> bool:
    """Ask again who ended or was silent; a refusal or bad input would only be repeated."""
    return isinstance(state.result(raise_on_failure=False), Lost)


ONCE_MORE: dict[str, Any] = {
    "retries": 1,
    "retry_delay_seconds": 0.5,
    "retry_condition_fn": _only_if_lost,
}
"""How a task asks a participant again."""


@task(
    name="prepare participant",
    task_run_name="prepare {name}",
    persist_result=False,
    cache_policy=None,
    **ONCE_MORE,
)
def prepare_participant(name: str, run: Run) -> Disclosed:
    """Import, check and clean the participant's event files; returns its disclosures and data version.

    A run that is resumed goes on with the version that it began with.
    """
    told = run.ask(name, "prepare", version=run.versions.get(name), agreed=run.agreed)
    disclosed = believed(name, "its data", Imported, told)
    rows = f"{disclosed['rows']:,} events, " if "rows" in disclosed else ""
    if left_out := disclosed.get("unlisted"):
        rows += f"{left_out:,} of them left out, since {run.catalogue} does not know their items, "
    run.say(f"{name}: {rows}data version {disclosed['version'][:12]}")
    return disclosed


@task(
    name="train participant",
    task_run_name="train {work.name}, round {work.number}",
    cache_key_fn=lambda _, arguments: "train-" + arguments["work"].key,
    persist_result=True,
    **ONCE_MORE,
)
def train_participant(work: Work) -> Disclosed:
    """The participant's local work of a round, on its own partitions; its update is kept at its side."""
    disclosed = believed(work.name, "its training", Trained, work.ask("train"))
    work.show("has trained")
    return disclosed


@task(
    name="find candidates",
    task_run_name="find candidates at {work.name}, round {work.number}",
    cache_key_fn=lambda _, arguments: "tabulate-" + arguments["work"].key,
    persist_result=True,
    **ONCE_MORE,
)
def tabulate_participant(work: Work) -> Disclosed:
    """The participant's candidates with their features, as of each part's beginning; kept at its side."""
    with work.run.solving:
        disclosed = believed(work.name, "its candidates", Tabulated, work.ask("tabulate"))
    work.show("has found its candidates")
    return disclosed


@task(
    name="score participant",
    task_run_name="score {work.name}, round {work.number}",
    cache_key_fn=lambda _, arguments: "score-" + arguments["work"].key,
    persist_result=True,
    **ONCE_MORE,
)
def score_participant(work: Work) -> Disclosed:
    """Fit the round's aggregate to the participant, and score its own queries; returns what it discloses."""
    run, champion = work.run, work.run.folder.facts["champion"] if work.number else None
    with run.solving:
        learned = {"state": ranker(work.number, run), "learned": best(run)}
        told = work.ask("score", **learned, champion=champion)
    disclosed = believed(work.name, "its scores", Scored, told)
    work.show("has scored its queries")
    return disclosed


def believed(name: str, of: str, kind: type[Frozen], told: Disclosed) -> Disclosed:
    """What a participant has told `of` itself; raises `Refused` for what would end everybody's run later."""
    try:
        return kind.model_validate(told).model_dump(exclude_unset=True)
    except ValidationError:
        raise Refused(f"{name}: told of {of} what is no figure") from None


def arrived(asked: Mapping[str, PrefectFuture[Disclosed]]) -> tuple[dict[str, Disclosed], dict[str, str]]:
    """What the participants disclosed, and why the others did not: silence is not an error here."""
    for future in asked.values():
        future.wait()
    states = {name: future.state for name, future in asked.items()}
    told = dict(zip(states, asyncio.run(_told(states.values())), strict=True))
    arrived = {name: told[name] for name, state in states.items() if state.is_completed()}
    return arrived, {name: reason(name, told[name]) for name in told.keys() - arrived}


async def _told(states: Iterable[State]) -> list[Any]:
    """The result of each state, or its error; in one loop, since `State.result` waits for a thread each."""
    return [await get_state_result(state, raise_on_failure=False) for state in states]
