"""What must be new before sums are opened again: two that differ by a few participants' events tell them."""

from collections.abc import Mapping

from federation.cadence import fresh
from federation.errors import NothingNew
from tasks.run import Run
from tasks.runs import RunFolder, all_runs

Versions = Mapping[str, str]


def require_news(run: Run) -> None:
    """Raise `NothingNew` where fewer than a sum may be opened of bring something new since an earlier run.

    An unfinished run counts where it opened a sum.  Runs of another configuration, or with others in
    them, do not.  An evaluation of the champion, which the run will meet, counts as well, where its folder
    is on this machine.
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
    """Raise `NothingNew` where so few bring something new since the champion was trained, or evaluated."""
    if _new(versions, champion.facts["versions"], minimum, f"run {champion.run}") == []:
        raise NothingNew(f"the data are those of run {champion.run}, whose model the champion is")
    _require_since_evaluations(champion, versions, minimum)


def _require_since_evaluations(champion: RunFolder, versions: Versions, minimum: int) -> None:
    for then in champion.evaluated:
        _new(versions, then, minimum, "an evaluation of the champion")


def _new(now: Versions, then: Versions, minimum: int, since: str) -> list[str] | None:
    """Who brings something new; nothing is said of another cohort, whose change is named elsewhere."""
    if now.keys() != then.keys():
        return None
    new = fresh(now, then)
    if 0 < len(new) < minimum:
        have = "has" if len(new) == 1 else "have"
        raise NothingNew(f"only {', '.join(new)} of the {minimum} needed {have} new data since {since}")
    return new
