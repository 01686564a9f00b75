"""Housekeeping: what no kept run needs is dropped, by each participant at its own side and here."""

import shutil
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from federation.errors import ChorusError, reason
from federation.frozen import Frozen
from tasks.doors import open_doors
from tasks.membership import Membership
from tasks.runs import all_runs
from tasks.work import Count, believed

PAGE = 200


def kept_runs(home: Path, newest: int, champions: Collection[str]) -> list[str]:
    """Names of the runs that stay: the newest finished ones, `champions`, and whatever did not finish."""
    runs = all_runs(home)
    finished = [each.run for each in runs if each.facts.get("status") == "finished"]
    gone = {*finished[:-newest]} - {*champions}
    return [each.run for each in runs if each.run not in gone]


class Tidied(Frozen):
    """What a participant tells of it."""

    dropped: Count


@task(name="tidy participants", cache_policy=NO_CACHE)
def tidy_participants(
    home: Path, memberships: Sequence[Membership], keep: Sequence[str]
) -> tuple[dict[str, int], dict[str, str]]:
    """Each participant drops its models of runs that are not kept.

    Returns how many folders each dropped, and who told nothing of it, and why.
    """
    dropped, lost = dict[str, int](), dict[str, str]()
    with open_doors(home, memberships) as doors:
        for each in memberships:
            try:
                told = doors[each.name].ask(
                    "tidy", {"keep": [*keep]}, deadline_seconds=each.rounds.deadline_seconds
                )
                dropped[each.name] = believed(each.name, "its folders", Tidied, told)["dropped"]
            except ChorusError as error:
                lost[each.name] = reason(each.name, error)
    return dropped, lost


@task(name="tidy runs", cache_policy=NO_CACHE)
def tidy_runs(home: Path, keep: Sequence[str]) -> int:
    """Drop the opened sums of runs that are not kept, but not their record; returns of how many."""
    old = [each for each in all_runs(home) if each.run not in keep and [*each.path.glob("round-*")]]
    for part in (part for folder in old for part in folder.path.glob("round-*")):
        shutil.rmtree(part)
    return len(old)


@task(name="tidy flow runs", cache_policy=NO_CACHE)
def tidy_flow_runs(tags: Sequence[str], keep_days: float) -> int:
    """Drop flow runs with all these tags that ended longer ago than `keep_days`; returns how many."""
    from prefect.client.orchestration import get_client

    before = datetime.now(UTC) - timedelta(days=keep_days)
    dropped = 0
    with get_client(sync_client=True) as client:
        while found := client.read_flow_runs(flow_run_filter=_ended(tags, before), limit=PAGE):
            for each in found:
                client.delete_flow_run(each.id)
            dropped += len(found)
    return dropped


def _ended(tags: Sequence[str], before: datetime) -> Any:
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import TERMINAL_STATES

    return filters.FlowRunFilter(
        tags=filters.FlowRunFilterTags(all_=[*tags]),
        state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[*TERMINAL_STATES])),
        end_time=filters.FlowRunFilterEndTime(before_=before),
    )
