"""The aggregator of one attempt: adds what a fixed cohort says, one named sum after the other.

It holds one accumulator and adds each chunk as it arrives, so its memory does not grow with the number
of participants.  A sum is opened when the whole cohort's terms are in, or never: once anyone is refused
or lost, everyone gets an error that names the culprit, and what was added is dropped.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, TypeAdapter

from federation.errors import Lost, Refused
from federation.fixed_point import FixedPoint, Words
from federation.plan import RoundPlan
from federation.turns import Turns
from federation.update import Update

Chunk = memoryview | bytes | Words
Name = Annotated[str, Field(pattern=r"^[\w /.-]+$", max_length=300)]
"""A name that can be shown in a log."""


class Header(NamedTuple):
    """What a contribution says of itself; the same for every participant of a sum.

    `label` is run/round/attempt, `name` the sum's, once in an attempt; `length` words mean what `form` says.
    """

    label: Name
    name: Name
    form: FixedPoint
    length: Annotated[int, Field(ge=0)]

    def told(self) -> dict[str, Any]:
        """The header as plain values."""
        return {**self._asdict(), "form": self.form.model_dump()}


HEADERS = TypeAdapter(Header)
"""Reads a header from plain values; raises `ValidationError`."""


class _Sum:
    """The accumulator of one named sum."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.words: Words = np.zeros(header.length, header.form.dtype)
        self.adding = threading.Lock()
        self.announced: dict[str, Header] = {}
        self.arrived: set[str] = set()
        self.disputed = False
        self.total: Update | None = None


class Relay:
    """Adds the cohort's contributions; `add` is called by one thread for each participant.

    `on_opened(name, form, total)` is called once for every opened sum, before anyone hears the total.
    `changed` is the lock and condition of what it holds; who has it holds all others up.
    `culprits` maps who was refused or lost to the reason, `opened` counts opened sums, `bytes_up` and
    `bytes_down` count words' bytes by participant.
    """

    def __init__(
        self,
        plan: RoundPlan,
        on_opened: Callable[[str, FixedPoint, Update], None] | None = None,
        changed: threading.Condition | Turns | None = None,
    ) -> None:
        self.plan = plan
        self.changed = changed or threading.Condition()
        self.deadline = time.monotonic() + plan.deadline_seconds
        self.culprits: dict[str, str] = {}
        self.opened = 0
        self.bytes_up: Counter[str] = Counter()
        self.bytes_down: Counter[str] = Counter()
        self._on_opened = on_opened
        self._current: _Sum | None = None
        self._names: set[str] = set()
        self._ended: set[str] = set()
        self._refused = False

    def add(
        self, participant: str, header: Header, chunks: Iterable[Chunk], part: slice | None = None
    ) -> Update:
        """Add `chunks` to the sum that `header` names; waits for the cohort and returns the total.

        Where the participant hears but a `part` of it, only that counts as sent.  Raises `Refused` where this
        contribution does not fit, and `Lost` where another's failed or the deadline passed.
        """
        current = self._admit(participant, header)
        try:
            self._accumulate(participant, current, chunks)
        except Exception as error:
            with self.changed:
                self._fail({participant: _reason(error)}, refused=isinstance(error, Refused))
            if isinstance(error, Refused):
                self._raise_if_over(participant)
            raise
        total = self._finish(participant, current)
        self.bytes_down[participant] += total.words[part or slice(None)].nbytes
        return total

    def fail(self, participant: str, reason: str) -> None:
        """Give the attempt up because of `participant`: everyone who waits or comes gets `Lost`."""
        with self.changed:
            self._fail({participant: reason})

    def leave(self, participant: str) -> None:
        """`participant` has ended its work and says nothing more in this attempt."""
        with self.changed:
            self._ended.add(participant)
            if self._current is not None and participant not in self._current.announced:
                self._fail({participant: f"ended its work without a term of {self._current.header.name!r}"})

    def _admit(self, participant: str, header: Header) -> _Sum:
        with self.changed:
            if participant not in self.plan.cohort:
                raise Refused(f"{participant}: is not in the cohort {list(self.plan.cohort)}")
            self._raise_if_over(participant)
            current = self._current  # a term like the others' needs no look of its own
            if current is None or participant in current.announced or header != current.header:
                if reason := self._objection(participant, header):
                    self._fail({participant: reason}, refused=True)
                    self._raise_if_over(participant)
                current = current or self._begin(participant, header)
            current.announced[participant] = header
            for ended in self._ended:
                self._fail({ended: f"ended its work without a term of {header.name!r}"})
            if self._ended or current.disputed or header != current.header:
                self._settle(participant, current)
            return current

    def _begin(self, participant: str, header: Header) -> _Sum:
        try:
            self._current = begun = _Sum(header)
        except MemoryError:
            reason = f"announced {header.length} words, more than memory holds"
            self._fail({participant: reason}, refused=True)
            raise Refused(f"{participant}: {reason}") from None
        self._names.add(header.name)
        return begun

    def _settle(self, participant: str, current: _Sum) -> None:
        """Where announcements differ, wait until all are made: those unlike most others are refused."""
        odd = current.announced[participant] != current.header
        current.disputed |= odd
        if current.disputed:
            self.changed.notify_all()
        while odd:
            self._raise_if_over(participant)
            if len(current.announced) == len(self.plan.cohort):
                self._refuse_the_odd(current)
            else:
                self.changed.wait(self.deadline - time.monotonic())
        self._raise_if_over(participant)

    def _refuse_the_odd(self, current: _Sum) -> None:
        usual = Counter(current.announced.values()).most_common(1)[0][0]
        odd = {who: _difference(found, usual) for who, found in current.announced.items() if found != usual}
        self._fail(odd, refused=True)

    def _objection(self, participant: str, header: Header) -> str | None:
        if header.label != self.plan.label:
            return f"its contribution is for {header.label}, not for {self.plan.label}"
        if not header.form.carries(len(self.plan.cohort)):
            return f"its form is for {header.form.terms} terms, the cohort has {len(self.plan.cohort)}"
        if self._current is None:
            return f"gave a second term to {header.name!r}" if header.name in self._names else None
        if participant in self._current.announced:
            return f"gave {header.name!r} while its term of {self._current.header.name!r} was being added"
        return None

    def _accumulate(self, participant: str, current: _Sum, chunks: Iterable[Chunk]) -> None:
        words, start = current.words, 0
        for chunk in chunks:
            term = np.frombuffer(chunk, words.dtype)
            into = words[start : start + term.size]
            if into.size < term.size:
                raise Refused(f"gave more than the {words.size} words it announced")
            with current.adding:
                self._raise_if_over(participant)
                np.add(into, term, out=into)
            start += term.size
            self.bytes_up[participant] += term.nbytes
        if start != words.size:
            raise Refused(f"gave {start} of the {words.size} words it announced")

    def _finish(self, participant: str, current: _Sum) -> Update:
        with self.changed:
            self._raise_if_over(participant)
            current.arrived.add(participant)
            if len(current.arrived) == len(self.plan.cohort):
                self._open(current)
            while current.total is None:
                self._raise_if_over(participant)
                self.changed.wait(self.deadline - time.monotonic())
        return current.total

    def _open(self, current: _Sum) -> None:
        total = Update(current.words, len(current.arrived))
        self.opened += 1
        try:
            if self._on_opened is not None:
                self._on_opened(current.header.name, current.header.form, total)
        except BaseException as error:
            self._fail({"coordinator": f"could not keep the sum: {_reason(error)}"})
            raise
        current.total, self._current = total, None
        self.changed.notify_all()

    def _raise_if_over(self, participant: str) -> None:
        """Raise if someone failed; past the deadline the missing ones have."""
        if not self.culprits and time.monotonic() >= self.deadline:
            with self.changed:
                self._fail(dict.fromkeys(self._missing(), "silent until the deadline"))
        if self._refused and participant in self.culprits:
            raise Refused(f"{participant}: {self.culprits[participant]}")
        if self.culprits:
            raise Lost(dict(self.culprits))

    def _missing(self) -> set[str]:
        """Who has not announced its term; where all have, some to wait for these, who has not given it."""
        everyone, current = set(self.plan.cohort), self._current
        if current is None:
            return everyone
        return everyone - current.announced.keys() or everyone - current.arrived

    def _fail(self, culprits: dict[str, str], refused: bool = False) -> None:
        """Under the lock: the first failure is the cause; what follows from it is not recorded."""
        if not self.culprits:
            self._refused, self.culprits = refused, culprits
            self._current = None
            self.changed.notify_all()


def _difference(found: Header, usual: Header) -> str:
    fields = [field for field in Header._fields if getattr(found, field) != getattr(usual, field)]
    told = (f"{field} {getattr(found, field)} where others gave {getattr(usual, field)}" for field in fields)
    return f"gave {', '.join(told)}"


def _reason(error: BaseException) -> str:
    if isinstance(error, Lost):
        return next(iter(error.participants.values()))
    return str(error) or type(error).__name__
