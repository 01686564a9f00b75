"""With whom a participant's terms were added: its memory against being exposed by a difference of sums.

It is written before the first term of a job is sent, since from then on a sum could be opened even if
this process ends; so a participant that was killed still knows it when the run is resumed.  The coordinator
keeps the same of its own, to resume among these.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from federation.files import named, read_json, write_json
from federation.plan import RoundPlan

Cohort = tuple[str, ...]

OPENS = {"look": "gather", "average": "gather"}
"""Jobs that open sums of what another has opened, so that among others they would be a difference."""

APART = {"average"}
"""Jobs whose terms are new in each step; told to be apart, each step has a cohort of its own."""


def work_of(job: str, told: Mapping[str, Any]) -> str:
    """What of a round the terms of a job are of, that is `told` so."""
    return f"{job}/{told['step']}" if job in APART and told.get("apart") else OPENS.get(job, job)


class Summed:
    """Cohorts by run, round and work; in `<folder>/<run>/summed.json` (mode 0600), or in memory only."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._known: dict[str, dict[str, Cohort]] = {}

    def cohort(self, plan: RoundPlan, work: str) -> Cohort | None:
        """Among whom the work's terms were sent in this round before; None for a first time."""
        return self.of(plan.run).get(f"{plan.number}/{work}")

    def everyone(self, run: str) -> set[str]:
        """Who had terms in a sum of the run that was opened, or may have been."""
        return {name for cohort in self.of(run).values() for name in cohort}

    def note(self, plan: RoundPlan, work: str, cohort: Cohort | None) -> None:
        """Remember that the work's terms go to `cohort`; None: that they were not opened, and will not be."""
        known = dict(self.of(plan.run))
        known.pop(f"{plan.number}/{work}", None)
        if cohort is not None:
            known[f"{plan.number}/{work}"] = cohort
        if self._folder is not None:
            write_json(self._path(plan.run), known)
        self._known[plan.run] = known

    def of(self, run: str) -> dict[str, Cohort]:
        """Cohorts of the run by round and work."""
        if run not in self._known:
            path = None if self._folder is None else self._path(run)
            kept = read_json(path) if path is not None and path.is_file() else {}
            self._known[run] = {key: tuple(cohort) for key, cohort in kept.items()}
        return self._known[run]

    def _path(self, run: str) -> Path:
        assert self._folder is not None
        return self._folder / named(run) / "summed.json"
