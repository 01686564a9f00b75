"""Whether enough participants have new data for sums to be opened again.

Two opened sums that differ by the new events of a few participants show what these events add up to.  So what
is done on a schedule waits until as many have new data as the smallest cohort whose sum may be opened.
"""

from collections.abc import Mapping
from pathlib import Path

from federation.cadence import fresh
from federation.errors import NothingNew
from tasks.run import Run
from tasks.runs import RunFolder, all_runs

Versions = Mapping[str, str]


def require_news(run: Run) -> None:
    """Raise `NothingNew` where a finished run had all of this, or too few have new data."""
    for each in reversed(all_runs(run.folder.home)):
        facts = each.facts
        finished = facts.get("status") == "finished" and facts.get("fingerprint") == run.fingerprint
        same = finished and facts.get("content") == run.content_digest
        if same and facts["versions"] == run.versions:
            raise NothingNew(f"data and configuration are those of run {each.run}")
    _require_enough(run.folder.home, run.versions, run.policy.minimum)


def require_new_window(champion: RunFolder, versions: Versions, minimum: int) -> None:
    """Raise `NothingNew` where the champion was trained on the same data, or too few have new data."""
    if champion.facts["versions"] == versions:
        raise NothingNew(f"the data are those of run {champion.run}, whose model the champion is")
    _require_enough(champion.home, versions, minimum)


def _require_enough(home: Path, now: Versions, minimum: int) -> None:
    """Raise `NothingNew` where some, but fewer than `minimum`, have new data since sums were opened.

    Every run that opened a sum counts, and every evaluation, whatever was configured then and whoever the
    champion was: all open counts of the same events.
    """
    for each in reversed(all_runs(home)):
        if each.facts.get("status") == "finished" or each.cohort:
            _compare(now, each.facts["versions"], minimum, f"run {each.run}")
        for then in each.evaluated:
            _compare(now, then, minimum, f"an evaluation of the model of run {each.run}")


def _compare(now: Versions, then: Versions, minimum: int, since: str) -> None:
    """Nothing is said of another cohort: the gate tells who came and went."""
    new = fresh(now, then)
    if now.keys() == then.keys() and 0 < len(new) < minimum:
        have = "has" if len(new) == 1 else "have"
        raise NothingNew(f"only {', '.join(new)} of the {minimum} needed {have} new data since {since}")
