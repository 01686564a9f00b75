"""Whether enough participants have new data for sums to be opened again.

Two opened sums that differ by the new events of a few participants show what these events add up to.  So what
is done on a schedule waits until as many have new data as the smallest cohort whose sum may be opened.
"""

from collections.abc import Mapping

from federation.cadence import fresh
from federation.errors import NothingNew
from tasks.run import Run
from tasks.runs import RunFolder, all_runs

Versions = Mapping[str, str]


def require_news(run: Run) -> None:
    """Raise `NothingNew` where nobody, or fewer than the rounds' minimum, have new data since an earlier run.

    An unfinished run counts where it opened a sum, and somebody has new data since.  Runs of another
    configuration, or of other participants, do not.  Evaluations of the champion, which the run will meet,
    count as well, where the champion's run is on this machine.
    """
    known = all_runs(run.folder.home)
    for each in reversed(known):
        facts, finished = each.facts, each.facts.get("status") == "finished"
        if facts.get("fingerprint") == run.fingerprint and (finished or each.cohort):
            new = _new(run.versions, facts["versions"], run.policy.minimum, f"run {each.run}")
            if finished and new == []:
                raise NothingNew(f"data and configuration are those of run {each.run}")
    for each in known:
        if each.run == run.folder.facts["champion"]:
            _require_since_evaluations(each, run.versions, run.policy.minimum)


def require_new_window(champion: RunFolder, versions: Versions, minimum: int) -> None:
    """Raise `NothingNew` where too few have new data since the champion was trained, or evaluated."""
    if _new(versions, champion.facts["versions"], minimum, f"run {champion.run}") == []:
        raise NothingNew(f"the data are those of run {champion.run}, whose model the champion is")
    _require_since_evaluations(champion, versions, minimum)


def _require_since_evaluations(champion: RunFolder, versions: Versions, minimum: int) -> None:
    for then in champion.evaluated:
        _new(versions, then, minimum, "an evaluation of the champion")


def _new(now: Versions, then: Versions, minimum: int, since: str) -> list[str] | None:
    """Who has new data; None where the cohorts differ, which the gate tells.

    Raises `NothingNew` where some have, but fewer than `minimum`.
    """
    if now.keys() != then.keys():
        return None
    new = fresh(now, then)
    if 0 < len(new) < minimum:
        have = "has" if len(new) == 1 else "have"
        raise NothingNew(f"only {', '.join(new)} of the {minimum} needed {have} new data since {since}")
    return new
