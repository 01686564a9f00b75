"""`chorus replay`: what each policy of update frequency would have done with the history that there is."""

import sys
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from feature_store.cleaning import microseconds
from federation.bandit import Bandit
from federation.durations import DAY
from federation.errors import BadInput
from federation.frequency import Drift, FrequencyConfig, Periodic
from federation.observation import spell
from federation.plateau import Plateau
from flows import tables
from flows.consortium import Consortium, read_consortium
from flows.data import generate_world, require_here
from tasks.choosing import chosen
from tasks.gathering import rehearsals
from tasks.rehearsal import Rehearsal
from tasks.replay import Follower, replay, span
from tasks.replayed import Replayed, burn_in, day
from tasks.runs import new_name

FIXED = (1, 2, 3, 4, 6, 8, 16)
"""Fixed intervals to compare with, in steps; the first is the oracle, which trains at every step."""

LONGEST = 16
"""The longest interval of the other policies, in steps."""

MOST = 10_000
"""Windows beyond which a replay would hardly end; these are 27 years of days."""


def start(
    path: Path,
    data: Path | None,
    json: Path | None,
    plot: Path | None,
    days: float,
    begin: datetime | None,
    end: datetime | None,
) -> None:
    """Replay the consortium in the file at `path` in steps of so many `days`: its table, plot and figures."""
    consortium = read_consortium(path, data)
    require_here(consortium, "chorus replay")
    generate_world(consortium)
    with tempfile.TemporaryDirectory() as scratch:
        everyone = rehearsals(
            Path(scratch), consortium.memberships, catalogue=consortium.catalogue is not None
        )
    moments = windows(everyone, days, begin, end)
    everyone = chosen(everyone, consortium.model, burn_in(moments), consortium.seed)
    followers = policies(consortium, days)
    found = Replayed(followers, moments, consortium.model.top, consortium.frequency.costs)
    for verdict in replay(everyone, moments, followers, consortium.seed, consortium.model.users_bound):
        found.queries.append(verdict.queries)
        sys.stderr.write(f"\r{len(found.queries)} of {len(moments) - 1} windows")
    sys.stderr.write("\n")
    if not any(metrics[0] for metrics in found.always.metrics):
        raise BadInput(
            f"--from, --to: found nobody between {day(moments[0])} and {day(moments[-1])} who had what "
            f"'{found.always.name}' lists, so nothing can be kept of it; expected more events"
        )
    report(consortium, found, json, plot)


def windows(
    everyone: Mapping[str, Rehearsal], days: float, begin: datetime | None, end: datetime | None
) -> list[int]:
    """The moments, in microseconds, between windows of `days`; by default after a fifth of the events."""
    first, last = span(everyone)
    first, last = microseconds(begin) if begin else first, microseconds(end) if end else last
    length = round(days * DAY * 1e6)
    count = max(last - first, 0) // length
    if not 2 <= count <= MOST:
        raise BadInput(
            f"--step {days:g}: found {count:,} whole windows between {day(first)} and {day(last)}, expected "
            f"2 to {MOST:,}"
        )
    return [first + place * length for place in range(count + 1)]


def policies(consortium: Consortium, days: float) -> list[Follower]:
    """Fixed intervals, the one that always trains first; then plateau, drift and bandit, as configured.

    These begin at the middle of their bounds, as one does who knows nothing yet.
    """
    given, costs = consortium.frequency.policy, consortium.frequency.costs
    bounds = {"shortest_days": days, "longest_days": LONGEST * days}
    dynamic = [given if isinstance(given, kind) else kind(**bounds) for kind in (Plateau, Drift, Bandit)]
    named = {f"every {spell(count * days * DAY)}": Periodic(days=count * days) for count in FIXED}
    named |= {policy.kind: policy for policy in dynamic}
    return [
        Follower(
            name,
            FrequencyConfig(policy=policy, costs=costs),
            days * DAY if isinstance(policy, Periodic) else policy.middle,
            consortium.seed,
        )
        for name, policy in named.items()
    ]


def report(consortium: Consortium, found: Replayed, json: Path | None, plot: Path | None) -> None:
    """The table, the figures as JSON, the plot, and all of it as a run at MLflow."""
    figures, figure = found.figures(), found.plot()
    tables.show_replay(found, consortium)
    tables.write_json(json, figures)
    if plot is not None:
        figure.savefig(plot)
    tracking = consortium.mlflow()
    run = f"replay-{new_name()}"
    kind = {"chorus.kind": "replay"}
    run_id = tracking.start_or_continue(run, f"{consortium.name} {run}", found.params(), kind)
    tracking.log_metrics(run_id, 0, found.metrics())
    tracking.log_json(run_id, figures, "replay.json")
    tracking.log_figure(run_id, figure, "replay.png")
    tracking.finish(run_id, "FINISHED")
