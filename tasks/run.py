"""What a training holds while it is under way: its participants' doors, its folder, what was agreed."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.catalogue import read_catalogue
from feature_store.content import digest, of_catalogue
from feature_store.splits import Split
from federation.door import Door
from federation.errors import reasons
from federation.fixed_point import FixedPoint
from federation.gate import GateConfig
from federation.plan import RoundPlan
from federation.policy import RoundPolicy
from federation.rounds import Together, together
from federation.summed import Summed
from federation.update import Update
from mlruns_config.tracking import Tracking
from recommenders.item_to_item import memory_needed
from tasks.following import readable, told_of
from tasks.model import ModelConfig
from tasks.runs import RunFolder


@dataclass(frozen=True)
class Run:
    """One training under way; it holds connections, so it never travels and is never stored."""

    folder: RunFolder
    doors: Mapping[str, Door]
    policy: RoundPolicy
    gate: GateConfig
    fingerprint: str
    tracking: Tracking
    catalogue: Path
    consortium: str
    model: ModelConfig
    split: Split
    created_at: str
    agreed: Mapping[str, Any]
    content: Path | None = None
    grows: bool = False
    seed: int = 0
    redo: str | None = None
    began_at: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.run

    @cached_property
    def solving(self) -> threading.Semaphore:
        """As many solves at once as there are cores and as `model.memory_gb` has room for, at least one."""
        if not self.model.sums_pairs:
            return threading.Semaphore(os.cpu_count() or 1)
        items = self.items or len(read_catalogue(self.catalogue))
        needed = memory_needed(items, self.model.held) / 2**30
        return threading.Semaphore(max(1, min(os.cpu_count() or 1, int(self.model.memory_gb // needed))))

    @property
    def items(self) -> int | None:
        """How many items of the catalogue the run knows, once it has begun with them."""
        return self.folder.facts.get("items")

    @cached_property
    def embeddings(self) -> NDArray[np.float32]:
        """The embeddings of all items that the run knows, (items, d); d is 0 where there is no content."""
        if self.content is None:
            return np.zeros((self.items or 0, 0), np.float32)
        known = read_catalogue(self.catalogue)[: self.items]
        return of_catalogue(self.content, self.model.content, known).of(self.model.content)[0]

    @property
    def content_digest(self) -> str | None:
        """The digest of the items' content, as it was when the run began; none where there is none."""
        found: str | None = self.folder.facts.get("content", digest(self.content))
        return found

    @property
    def _known(self) -> dict[str, Any]:
        """What every job is told: the run, its catalogue, its content."""
        return {"run": self.name, **told_of(self.catalogue, self.items, self.content_digest)}

    @property
    def versions(self) -> dict[str, str]:
        """The data versions that the run began with, by participant."""
        return dict(self.folder.facts.get("versions", {}))

    def begin_with(self, prepared: Mapping[str, Mapping[str, Any]], missing: Mapping[str, str]) -> None:
        """Keep the data versions of those who are new to the run: a resume goes on with these.

        What they disclosed, and who is missing and why, is kept for the tables.
        """
        fresh = {name: told["version"] for name, told in prepared.items()}
        self.folder.note(versions={**fresh, **self.versions}, prepared=prepared, missing=missing)

    def missed(self, names: Iterable[str]) -> dict[str, str]:
        """Who of `names` has not scored the round before, where everything is chosen, and why."""
        if not (rounds := self.folder.rounds):
            return {}
        scored, lost = rounds[-1]["scored"], self.folder.lost(rounds[-1])
        return {
            name: f"missed round {rounds[-1]['number']}: {lost.get(name, 'it was not there')}"
            for name in names
            if name not in scored
        }

    def say(self, text: str) -> None:
        """Tell the log of the task that is running, and whoever watches."""
        from prefect.logging import get_run_logger

        get_run_logger().info(text)
        self.show(text)

    def show(self, text: str) -> None:
        """Tell whoever watches; Prefect's page shows of each task run that it has finished, anyway."""
        sys.stderr.write(f"{time.monotonic() - self.began_at:7.1f} s  {text}\n")

    def ask(self, name: str, job: str, **arguments: Any) -> dict[str, Any]:
        """What a participant discloses when it has done `job`; it may not add to a sum.

        It may read opened ones where it is among those who were summed in the run.
        """
        return self.doors[name].ask(
            job,
            {**self._known, **arguments},
            read=readable(self.catalogue, self.items, self.folder.opened if name in self.summed else None),
            deadline_seconds=self.policy.deadline_seconds,
        )

    def sum(self, plan: RoundPlan, job: str, keep: bool = True, **arguments: Any) -> Together:
        """`job` at the whole cohort at once, each on its data version of the run.

        Its opened sums are kept in the run's folder, to be read.
        """
        versions, common = self.versions, {**self._known, "number": plan.number, **arguments}
        reply = together(
            self.doors,
            plan,
            job,
            lambda name: {**common, "version": versions.get(name)},
            self.policy,
            on_opened=self._keep if keep else None,
            read=readable(self.catalogue, self.items, self.folder.opened),
            memory=self._memory,
        )
        if reply.returned:
            self.say(f"{job}: done again with the same participants, since {reasons(reply.returned)}")
        if reply.degraded:
            self.say(
                f"{job}: degraded, went on without {', '.join(reply.exposed)}: their terms can be inferred"
            )
        return reply

    @property
    def cohorts(self) -> dict[str, tuple[str, ...]]:
        """Among whom the sums of each round's jobs were opened, or may have been."""
        return self._memory.of(self.name)

    @property
    def summed(self) -> set[str]:
        """Who had terms in a sum of the run that was opened, or may have been."""
        return self._memory.everyone(self.name)

    @property
    def _memory(self) -> Summed:
        """What the coordinator remembers of who was summed with whom."""
        return Summed(self.folder.path.parent)

    def _keep(self, attempt: RoundPlan, name: str, form: FixedPoint, total: Update) -> None:
        self.folder.keep(attempt.number, name, form, total)

    def plan(self, number: int, cohort: Sequence[str]) -> RoundPlan:
        """The first attempt of a round."""
        return RoundPlan(
            run=self.name,
            number=number,
            cohort=tuple(cohort),
            deadline_seconds=self.policy.deadline_seconds,
            seed=self.seed,
        )
