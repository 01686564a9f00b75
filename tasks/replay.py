"""Policies of update frequency side by side over real history, in virtual time.

At every step the oracle trains; whoever is due takes that very model, since the same events give the same
model whoever asks. Each model is judged once in each window, by sums over the participants.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from federation.frequency import FrequencyConfig, decide
from federation.observation import Observation
from federation.plan import RoundPlan
from federation.simulate import simulate
from recommenders.item_to_item import gram_form
from recommenders.metrics import bootstrap_errors
from tasks.rehearsal import Counts, Learned, Rehearsal, Window

SECOND = 1_000_000
REMEMBERED = 200  # observations that a policy is shown


@dataclass(frozen=True)
class Champion:
    """The models of one training, and what the training took, or since then the last refresh.

    `described` are the cells of each participant's newest events by feature, as of the training.
    """

    learned: Mapping[str, Learned]
    counts: Counts
    described: Mapping[str, NDArray[np.int64]]
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Judged:
    """How one champion fared in a window: mean metric of each arm, and the drift since its training."""

    metrics: tuple[float, ...]
    drift: Mapping[str, float]


@dataclass(frozen=True)
class Verdict:
    """How the champions fared in one window, by the step of their training."""

    queries: int
    judged: Mapping[int, Judged]
    draws: NDArray[np.float64]

    def drawn(self, champion: int) -> NDArray[np.float64]:
        """Bootstrap sums of a champion's metric, and of the weights of queries: (draws, 2)."""
        return self.draws[:, [list(self.judged).index(champion), -1]]

    def errors(self, champion: int, replaced: int) -> tuple[float, float]:
        """Bootstrap errors of a champion's metric, and of its gain over the one that it replaced."""
        columns = [*(list(self.judged).index(at) for at in (champion, replaced)), -1]
        errors, of_gains = bootstrap_errors(self.draws[:, columns])
        return float(errors[0]), float(of_gains[1])


@dataclass
class Follower:
    """One policy in virtual time: what it has as champion, saw, spent and got."""

    name: str
    config: FrequencyConfig
    interval: float
    seed: int = 0
    champion: int = 0
    replaced: int | None = None
    state: Mapping[str, float] = field(default_factory=dict)
    history: list[Observation] = field(default_factory=list)
    metrics: list[tuple[float, ...]] = field(default_factory=list)
    drawn: list[NDArray[np.float64]] = field(default_factory=list)
    spent: list[tuple[bool, float, float]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def train_if_due(self, step: int, length: float) -> None:
        """Take the model of `step` where the interval has passed; steps are `length` seconds."""
        due = step == 0 or (step - self.champion) * length >= self.interval * (1 - 1e-9)
        self.replaced = self.champion if due else None
        self.champion = step if due else self.champion

    def observe(self, at: float, verdict: Verdict, champion: Champion) -> None:
        """Take note of the window that ended `at`, and decide."""
        spent = champion.seconds, float(champion.bytes)
        self.metrics.append(verdict.judged[self.champion].metrics)
        self.drawn.append(verdict.drawn(self.champion))
        self.spent.append((self.replaced is not None, *spent))
        self.history.append(self._observation(at, verdict, spent))
        decision = decide(self.config, self.history[-REMEMBERED:], self.interval, self.state, self.seed)
        self.interval, self.state = decision.interval_seconds, decision.state
        self.reasons.append(decision.reason)

    def _observation(self, at: float, verdict: Verdict, spent: tuple[float, float]) -> Observation:
        seen, told = verdict.judged[self.champion], {}
        if verdict.queries:
            before = self.champion if self.replaced is None else self.replaced
            error, gain_error = verdict.errors(self.champion, before)
            told = {"metric": seen.metrics[0], "metric_error": error}
            if before != self.champion:
                gain = seen.metrics[0] - verdict.judged[before].metrics[0]
                told |= {"gain": gain, "gain_error": gain_error}
        return Observation(
            at=at,
            trained=self.replaced is not None,
            interval_seconds=self.interval,
            drift=seen.drift["drift"],
            unseen=seen.drift["unseen"],
            features=seen.drift.get("largest_feature_drift"),
            seconds=spent[0],
            bytes=spent[1],
            **told,
        )


def replay(
    everyone: Mapping[str, Rehearsal],
    moments: Sequence[int],
    followers: Sequence[Follower],
    seed: int,
    users_bound: int,
) -> Iterator[Verdict]:
    """Go through the windows between `moments` (microseconds); yields how the champions fared in each."""
    length = (moments[1] - moments[0]) / SECOND
    held: dict[int, Champion] = {}
    size = training_bytes(everyone, users_bound)
    for step, window in enumerate(pairwise(moments)):
        plan = RoundPlan(run="replay", number=step, cohort=tuple(everyone), seed=seed)
        before = moments[step - 1] if step else 0
        learned = (before, window[0])
        held = {at: refresh(everyone, champion, learned) for at, champion in held.items()}
        newest = (2 * window[0] - window[1], window[0])
        held[step] = train(everyone, learned, newest, plan, size)
        for follower in followers:
            follower.train_if_due(step, length)
        needed = {step, *(each.champion for each in followers), *(each.replaced for each in followers)}
        held = {at: champion for at, champion in held.items() if at in needed}
        verdict = judge(everyone, held, window, plan)
        for follower in followers:
            follower.observe(window[1] / SECOND, verdict, held[follower.champion])
        yield verdict


def train(
    everyone: Mapping[str, Rehearsal], window: Window, newest: Window, plan: RoundPlan, size: int
) -> Champion:
    """What the participants learn by the end of `window`, having learned until its begin.

    Drift is measured against the events of the window `newest`.
    """
    began = time.process_time()
    counts = count(everyone, window[1], plan)
    learned = {name: each.learn(window, counts[0], [*everyone.values()]) for name, each in everyone.items()}
    described = {name: each.describe(newest) for name, each in everyone.items()}
    return Champion(learned, counts, described, time.process_time() - began, size)


def count(everyone: Mapping[str, Rehearsal], until: int, plan: RoundPlan) -> Counts:
    """The cohort's counts of each item by `until`, in each window and all."""
    parts = {name: partial(each.count, until) for name, each in everyone.items()}
    return next(iter(simulate(parts, plan, masks=False).values()))


def refresh(everyone: Mapping[str, Rehearsal], champion: Champion, window: Window) -> Champion:
    """The champion at the end of `window`, as each participant makes it at home: nothing is sent."""
    began = time.process_time()
    learned = {name: each.refresh(champion.learned[name], window) for name, each in everyone.items()}
    return replace(champion, learned=learned, seconds=time.process_time() - began, bytes=0)


def judge(
    everyone: Mapping[str, Rehearsal], held: Mapping[int, Champion], window: Window, plan: RoundPlan
) -> Verdict:
    """How the champions in `held` fare in `window`."""
    parts = {
        name: partial(
            each.judge,
            {
                at: (champion.learned[name], champion.counts, champion.described[name])
                for at, champion in held.items()
            },
            window,
            plan.stream(name),
        )
        for name, each in everyone.items()
    }
    sums, draws, drifts = next(iter(simulate(parts, plan, masks=False).values()))
    queries = int(sums[0, 0, -1])
    means = sums[:, :, 0] / max(queries, 1)
    judged = {at: Judged(tuple(means[place]), drifts[place]) for place, at in enumerate(held)}
    return Verdict(queries, judged, draws)


def training_bytes(everyone: Mapping[str, Rehearsal], users_bound: int) -> int:
    """What both rounds of a pipeline's training send and receive: counts and X'X's triangle, for all."""
    first = next(iter(everyone.values()))
    items, settings = first.data.item_count, first.settings
    words = 8 * items * len(settings.windows)
    if "item_to_item" in settings.choices:
        words += gram_form(users_bound, len(everyone)).dtype.itemsize * items * (items + 1) // 2
    return 4 * len(everyone) * words  # up and down, twice


def span(everyone: Mapping[str, Rehearsal]) -> tuple[int, int]:
    """When a fifth of all events have happened, and when the last did, in microseconds; from sums."""
    plan = RoundPlan(run="replay", number=0, cohort=tuple(everyone))
    parts = {name: each.span for name, each in everyone.items()}
    return next(iter(simulate(parts, plan, masks=False).values()))
