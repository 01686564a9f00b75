"""The same participants in one process: threads instead of processes, the same layers and relay.

For tests, benchmarks and experiments; gives bit for bit what a run of processes gives.  The threads take
turns on one core, from sum to sum: side by side they would mostly fight for the interpreter.  So a part must
not wait for another except in a sum, and gains nothing from threads of its own.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache, partial
from typing import TypeVar

from federation.channel import Channel, Vector
from federation.errors import BadInput, Lost, Refused
from federation.fixed_point import FixedPoint
from federation.layers import stack
from federation.masks import KeyPair, Masks
from federation.plan import RoundPlan
from federation.relay import Header, Relay
from federation.turns import Turns
from federation.update import Update

Result = TypeVar("Result")


class InProcess:
    """A participant's channel to a relay in the same process."""

    def __init__(
        self, name: str, relay: Relay, masks: Masks | None, read: Callable[[str], Vector] | None
    ) -> None:
        self.name = name
        self.cohort = relay.plan.cohort
        self._relay = relay
        self._stack = cache(partial(stack, masks=masks))
        self._read = read

    def sum(self, name: str, vector: Vector, form: FixedPoint, part: slice | None = None) -> Vector:
        """The opened total over the cohort; see `Channel.sum`."""
        plan, layers = self._relay.plan, self._stack(form)
        try:
            words = layers.on_participant(vector, plan)
        except Refused as error:
            self._relay.fail(self.name, f"sum {name!r}: {error}")
            raise Refused(f"{self.name}: sum {name!r}: {error}") from None
        header = Header(label=plan.label, name=name, form=form, length=words.size)
        total = self._relay.add(self.name, header, (words,), part)
        return layers.on_aggregate(total.words[part or slice(None)], plan, plan.cohort)

    def read(self, name: str) -> Vector:
        """A total that was opened earlier; see `Channel.read`."""
        if self._read is None:
            raise BadInput(f"there is no earlier total {name!r}")
        return self._read(name)


def simulate(
    parts: Mapping[str, Callable[[Channel], Result]],
    plan: RoundPlan,
    masks: bool = True,
    on_opened: Callable[[str, FixedPoint, Update], None] | None = None,
    read: Callable[[str], Vector] | None = None,
    relay: Relay | None = None,
) -> dict[str, Result]:
    """What each participant's part returns, run in a thread with its channel.

    `relay` is one of `plan` to use, for who wants to look at it afterwards (`on_opened` is then its own).
    Raises the error of the participant that failed first; the others' parts see `Lost`.
    """
    if set(parts) != set(plan.cohort):
        raise BadInput(f"parts of {sorted(parts)} for a cohort of {list(plan.cohort)}")
    relay = Relay(plan, on_opened, Turns()) if relay is None else relay
    results: dict[str, Result] = {}
    errors: dict[str, BaseException] = {}

    def work(name: str, channel: Channel) -> None:
        try:
            _share_a_core()
            with relay.changed:
                results[name] = parts[name](channel)
            relay.leave(name)
        except BaseException as error:
            errors[name] = error
            relay.fail(name, f"{type(error).__name__}: {error}")

    channels = {name: InProcess(name, relay, own, read) for name, own in _masks(plan, masks).items()}
    threads = [threading.Thread(target=work, args=item, name=item[0]) for item in channels.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((errors[name] for name in relay.culprits if name in errors), _first(errors.values()))
    return results


def _share_a_core() -> None:
    """Keep this thread on the core of all the others: in turns they gain nothing from a second one, and
    half of their time went into moving the interpreter's memory from core to core.  As a batch thread it does
    not interrupt who wakes it, only to find that one in the interpreter; another policy is left as it is."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(os.getpid()))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            with suppress(OSError):  # not every sandbox knows the policy
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _masks(plan: RoundPlan, on: bool) -> dict[str, Masks | None]:
    if not on:
        return dict.fromkeys(plan.cohort)
    pairs = {name: KeyPair() for name in plan.cohort}
    publics = {name: pair.public for name, pair in pairs.items()}
    return {name: Masks(name, pair, publics, plan) for name, pair in pairs.items()}


def _first(errors: Iterable[BaseException]) -> BaseException:
    """The error that is not a mere consequence of another's, if there is one."""
    found = list(errors)
    return next((error for error in found if not isinstance(error, Lost)), found[0])
