"""One round among processes: who is ready, one job at all of them at once, and what a loss means.

An update goes into one opened sum.  So the cohort is fixed by a ready call before masks are agreed;
whoever is lost before a sum was opened, the rest begin anew under fresh keys; after that the round is
repeated with the same cohort or not at all, unless the participants agreed to be exposed.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from federation.door import Door, Read
from federation.errors import BadInput, ChorusError, Lost, TooFew, reason, reasons
from federation.fixed_point import FixedPoint
from federation.keyring import PUBLIC, SHOWN
from federation.plan import RoundPlan
from federation.policy import RoundPolicy
from federation.relay import Relay
from federation.summed import Summed, work_of
from federation.update import Update

OnOpened = Callable[[RoundPlan, str, FixedPoint, Update], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Together:
    """What came of a round.

    `plan` is the attempt that counts and `plan.cohort` who is in its sums; `lost` maps all others
    that were invited to the reason.  Bytes of words are by participant, over all attempts.
    `exposed` are those without whom the round went on after a sum with their terms was opened: the
    difference of the two sums is theirs, of one alone its own.  `returned` maps those who were lost, waited
    for, and are in the sums all the same to the reason.
    """

    plan: RoundPlan
    results: dict[str, dict[str, Any]]
    lost: dict[str, str]
    bytes_up: dict[str, int]
    bytes_down: dict[str, int]
    attempts: int
    exposed: tuple[str, ...] = ()
    returned: dict[str, str] = field(default_factory=dict)

    @property
    def degraded(self) -> bool:
        """Whether the round went on although that exposes someone."""
        return bool(self.exposed)

    @property
    def cohort(self) -> tuple[str, ...]:
        """Who is in the sums."""
        return self.plan.cohort


def together(
    doors: Mapping[str, Door],
    plan: RoundPlan,
    job: str,
    arguments: Callable[[str], Mapping[str, Any]] = lambda name: {},
    policy: RoundPolicy | None = None,
    on_opened: OnOpened | None = None,
    read: Read | None = None,
    memory: Summed | None = None,
) -> Together:
    """Run `job` at all of `plan.cohort` (who are invited) at once, with one relay between them.

    `arguments(name)` are those of a participant.  `on_opened(plan, name, form, total)` is called for every
    sum as it is opened, with the plan of its attempt: only those of the attempt that is returned count.
    `read(name)` serves earlier totals.  `memory` knows, as the participants do, among whom a round that was
    cut off may have opened a sum: it is resumed among these.

    Raises `TooFew` where quorum or minimum no longer hold, and `Lost` where a participant was lost
    after a sum was opened and did not come back: the round can be resumed with the same cohort.
    """
    if missing := set(plan.cohort) - set(doors):
        raise BadInput(f"no door leads to {sorted(missing)}")
    memory = memory or Summed()
    work = work_of(job, arguments(plan.cohort[0]))
    before = memory.cohort(plan, work)
    this = _Round(doors, plan.cohort, job, arguments, policy or RoundPolicy(), on_opened, read)
    plan = this.among(plan, before)
    while True:
        keys = this.ready(plan, before)
        plan = RoundPlan(**{**plan.model_dump(), "cohort": tuple(keys)})
        summed = tuple(dict.fromkeys((*(before or ()), *plan.cohort)))
        memory.note(plan, work, summed)
        results, culprits, opened = this.attempt(plan, keys)
        if not culprits:
            return this.report(plan, results, summed)
        before = summed if opened else before
        if before is None:
            memory.note(plan, work, None)
        plan = plan.again(this.rest(plan, culprits, before is not None))


@dataclass
class _Round:
    """What does not change between the attempts of a round, and what has become of them."""

    doors: Mapping[str, Door]
    invited: tuple[str, ...]
    job: str
    arguments: Callable[[str], Mapping[str, Any]]
    policy: RoundPolicy
    on_opened: OnOpened | None
    read: Read | None
    bytes_up: Counter[str] = field(default_factory=Counter)
    bytes_down: Counter[str] = field(default_factory=Counter)
    lost: dict[str, str] = field(default_factory=dict)
    attempts: int = 0
    repeated: bool = False

    def among(self, plan: RoundPlan, before: tuple[str, ...] | None) -> RoundPlan:
        """The plan without those who were not summed `before`, when this round was cut off."""
        later = [name for name in plan.cohort if before is not None and name not in before]
        self.lost |= dict.fromkeys(later, "was not in this sum when the run was cut off")
        return plan.model_copy(update={"cohort": tuple(name for name in plan.cohort if name not in later)})

    def ready(self, plan: RoundPlan, before: tuple[str, ...] | None) -> dict[str, str]:
        """The ready call: what those show who answer, were told the same, and are enough to go on.

        Who was summed `before` is waited for: of a sum without one of them that one's own term would follow.
        """
        self.attempts += 1
        seconds = min(self.policy.ready_seconds, plan.deadline_seconds)

        def ready(name: str) -> str:
            return self.doors[name].ready(plan, self.job, self.arguments(name), deadline_seconds=seconds)

        keys, silent = _in_threads(plan.cohort, ready)
        odd = dict.fromkeys(_odd(keys), f"was told, or has kept, something else for {self.job} than most")
        keys = {name: key for name, key in keys.items() if name not in odd}
        self.lost |= silent | odd
        away = {name: self.lost.get(name, "is not there") for name in before or () if name not in keys}
        if away and self.policy.on_loss == "wait":
            raise Lost(away)
        self._require(plan, tuple(keys))
        return keys

    def attempt(
        self, plan: RoundPlan, keys: dict[str, str]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, str], bool]:
        """The job at the whole cohort: results, culprits, and whether a sum was opened."""
        on_opened = self.on_opened
        relay = Relay(plan, None if on_opened is None else lambda *opened: on_opened(plan, *opened))
        try:
            results, failed = _in_threads(plan.cohort, lambda name: self._ask(name, plan, keys, relay))
        except BaseException:  # an interruption: else whoever waits for a term goes on until the deadline
            relay.fail("coordinator", "gave the round up")
            raise
        self.bytes_up.update(relay.bytes_up)
        self.bytes_down.update(relay.bytes_down)
        causes = {name: why for name, why in relay.culprits.items() if name in plan.cohort}
        return results, causes or failed, relay.opened > 0

    def rest(self, plan: RoundPlan, culprits: dict[str, str], summed: bool) -> tuple[str, ...]:
        """Who is in the next attempt: all of them where they were summed, unless they agreed otherwise."""
        self.lost |= culprits
        if self.repeated:
            raise Lost(culprits)
        if summed and self.policy.on_loss == "wait":
            self.repeated = True
            return plan.cohort
        rest = tuple(name for name in plan.cohort if name not in culprits)
        self._require(plan, rest)
        return rest

    def report(
        self, plan: RoundPlan, results: dict[str, dict[str, Any]], summed: tuple[str, ...]
    ) -> Together:
        """The round as it came out; exposed is who was `summed` before and is not now."""
        exposed = tuple(sorted(set(summed) - set(plan.cohort)))
        returned = {name: why for name, why in self.lost.items() if name in plan.cohort}
        lost = {name: why for name, why in self.lost.items() if name not in returned}
        sent = dict(self.bytes_up), dict(self.bytes_down)
        return Together(plan, results, lost, *sent, self.attempts, exposed, returned)

    def _ask(self, name: str, plan: RoundPlan, keys: dict[str, str], relay: Relay) -> dict[str, Any]:
        try:
            result = self.doors[name].ask(
                self.job,
                self.arguments(name),
                plan=plan,
                relay=relay,
                keys=keys if self.policy.masks else None,
                read=self.read,
                deadline_seconds=plan.deadline_seconds,
            )
        except Exception as error:
            relay.fail(name, reason(name, error))
            raise
        relay.leave(name)
        return result

    def _require(self, plan: RoundPlan, present: tuple[str, ...]) -> None:
        needed = self.policy.needed(len(self.invited))
        if len(present) >= needed:
            return
        raise TooFew(
            f"{plan.label}: needs {needed} participants (minimum {self.policy.minimum}, quorum "
            f"{self.policy.quorum:g} of {len(self.invited)}), found {len(present)} "
            f"({', '.join(sorted(present)) or 'nobody'}); {reasons(self.lost)}"
        )


def _odd(keys: Mapping[str, str]) -> list[str]:
    """Who shows another digest of what it was told than most: with it in the cohort all would refuse."""
    told = {name: bytes.fromhex(key)[PUBLIC:SHOWN] for name, key in keys.items()}
    each = list(told.values())
    usual = max(each, key=each.count, default=None)
    return [name for name, digest in told.items() if digest != usual]


def _in_threads(
    names: tuple[str, ...], call: Callable[[str], Result]
) -> tuple[dict[str, Result], dict[str, str]]:
    """What `call` returns for each name, all at once, and the reasons of those that failed.

    What is not a `ChorusError` is a fault of ours and raised.
    """
    pool = ThreadPoolExecutor(max(1, len(names)), thread_name_prefix="asks")
    try:
        asked = {name: pool.submit(call, name) for name in names}
        errors = {name: error for name, each in asked.items() if (error := each.exception()) is not None}
    finally:
        pool.shutdown(wait=False)  # an interrupted call ends when its door is closed, further out
    for error in errors.values():
        if not isinstance(error, ChorusError):
            raise error
    results = {name: each.result() for name, each in asked.items() if name not in errors}
    return results, {name: reason(name, error) for name, error in errors.items()}
