"""What the coordinator keeps of a run: opened sums, figures and states, never a contribution."""

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.errors import BadInput
from federation.files import OWNER_ONLY, read_json, save, write_json
from federation.fixed_point import FixedPoint
from federation.summed import Summed
from federation.update import Update

SUM = re.compile(r"([0-9]{1,9})/((?:[a-z0-9_]{1,99}/){0,9}[a-z0-9_]{1,99})")
"""The name by which participants ask for an opened sum: its round's number, and a path that stays in it."""


STEPS = ("summed", "grown", "learned")
"""The kinds of a round's steps that open sums."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run under `<state>/coordinator/runs`."""

    path: Path

    @property
    def run(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def home(self) -> Path:
        """The consortium's folder, below which it lies."""
        return self.path.parents[2]

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the run: status, cuts, data versions, ids at Prefect and MLflow, figures."""
        facts: dict[str, Any] = read_json(self.path / "run.json")
        return facts

    def note(self, **facts: Any) -> None:
        """Add to what is known of the run."""
        known = self.facts if (self.path / "run.json").exists() else {}
        write_json(self.path / "run.json", {**known, **facts})

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """The records of the rounds that are finished, in order."""
        found = sorted(self.path.glob("round-????/record.json"))
        return [read_json(record) for record in found]

    def lost(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Who is not in a round, by its `record`, and why: missing since the run began, or lost in it."""
        return {**self.facts.get("missing", {}), **record["lost"]}

    @property
    def cohort(self) -> set[str]:
        """Who is in the sums of the run; nobody where none was opened.

        Where no step is over it is those among whom one was cut off, since it may have opened a sum.
        """
        kinds = ((number, kind) for number in (0, 1) for kind in STEPS)
        opened = [step["cohort"] for number, kind in kinds for step in self.steps(number, kind)]
        over = set().union(*opened) or set(self.facts.get("cohort", ()))
        return over or Summed(self.path.parent).everyone(self.run)

    def among(self, number: int) -> set[str]:
        """Who is in the sum of a round; of one that left none, who is in the run's."""
        summed = self.steps(number, "summed")
        return set(summed[0]["cohort"]) if summed else self.cohort

    @property
    def evaluated(self) -> list[dict[str, str]]:
        """On which data versions its model was evaluated as the champion, or was about to be."""
        return list(self.facts.get("evaluated", ()))

    def evaluate_on(self, versions: Mapping[str, str]) -> None:
        """Note that its model is about to be evaluated on these data versions."""
        if versions not in self.evaluated:
            self.note(evaluated=[*self.evaluated, dict(versions)])

    def part(self, number: int) -> int:
        """The part of the events that a round scores: see `Prepared`."""
        return max(len(self.facts["cuts"]), 2) - 1 + number

    def opened(self, name: str) -> NDArray[Any]:
        """An opened sum by `round/name`, read from disk as it is needed.

        Raises `BadInput` for a sum that was not opened in this run.
        """
        if found := SUM.fullmatch(name):
            for suffix in ("", "under-way"):
                path = self._round(int(found[1]), suffix) / f"{found[2]}.npy"
                if path.is_file():
                    return np.load(path, mmap_mode="r", allow_pickle=False)
        raise BadInput(f"run {self.run}: no sum {name[:99]!r} was opened")

    def keep(self, number: int, name: str, form: FixedPoint, total: Update) -> None:
        """Keep an opened sum of the round under way; integers in the words that they came in."""
        save(self._round(number, "under-way") / f"{name}.npy", _decoded(form, total))

    def steps(self, number: int, kind: str) -> list[dict[str, Any]]:
        """What was noted of the steps of a round, in order."""
        found = (self._round(number, suffix).glob(f"{kind}-????.json") for suffix in ("", "under-way"))
        return [read_json(path) for each in found for path in sorted(each)]

    def add_step(self, number: int, kind: str, record: dict[str, Any]) -> None:
        """Note a step of the round under way: it will not be repeated."""
        place = len(self.steps(number, kind))
        write_json(self._round(number, "under-way") / f"{kind}-{place:04}.json", record)

    def begin(self, number: int) -> None:
        """Start a round, or go on with one whose sums were opened: they are opened once."""
        if self.steps(number, "summed"):
            return
        shutil.rmtree(self._round(number, "under-way"), ignore_errors=True)
        self._round(number, "under-way").mkdir(parents=True, mode=OWNER_ONLY)

    def finish(self, number: int, record: dict[str, Any]) -> None:
        """The checkpoint: from here on the round is done and will not be repeated."""
        write_json(self._round(number, "under-way") / "record.json", record)
        os.replace(self._round(number, "under-way"), self._round(number))

    def _round(self, number: int, suffix: str = "") -> Path:
        return self.path / (f"round-{number:04}" + (f".{suffix}" if suffix else ""))


def _decoded(form: FixedPoint, total: Update) -> NDArray[Any]:
    if form.fraction_bits:
        return form.decode(total.words)
    return total.words.view(f"i{total.words.itemsize}") if form.signed else total.words


def new_name() -> str:
    """A name for a new run: when it began (UTC), and what tells it from another of that second."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def runs_folder(home: Path) -> Path:
    """Where the coordinator keeps the runs of the consortium whose folder is `home`."""
    return home / "coordinator" / "runs"


def find_run(home: Path, run: str) -> RunFolder:
    """The folder of a run; `BadInput` names the runs that exist when there is none of that name."""
    folder = RunFolder(runs_folder(home) / run)
    if not (folder.path / "run.json").is_file():
        known = ", ".join(each.run for each in all_runs(home)) or "none yet"
        raise BadInput(f"run '{run}' is not known in {home} (known: {known})")
    return folder


def all_runs(home: Path) -> list[RunFolder]:
    """The consortium's runs, oldest first."""
    found = [RunFolder(path.parent) for path in runs_folder(home).glob("*/run.json")]
    return sorted(found, key=lambda folder: str(folder.facts.get("created_at", "")))
