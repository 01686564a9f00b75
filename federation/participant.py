"""A participant's process: answers requests by named jobs, and says nothing but terms of sums and
the disclosures that its jobs return.

It checks every request against its own copy of the policy, sends nothing after its own deadline, and
ends when its connection closes, even in the middle of work.
"""

import os
import select
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from federation.channel import Channel
from federation.errors import BadInput, ChorusError, Lost, Refused
from federation.frames import Frames, NotAFrame
from federation.keyring import PUBLIC, SHOWN, Keyring
from federation.masks import KeyPair, Masks
from federation.messages import to_message
from federation.plan import RoundPlan
from federation.policy import RoundPolicy
from federation.socket_channel import Disconnected, SocketChannel
from federation.summed import Summed, work_of
from federation.told import digest

Job = Callable[[dict[str, Any], Channel], dict[str, Any]]
Alike = Callable[[str, dict[str, Any]], Any]
"""What all of a cohort are told alike for a job, from its name and arguments: JSON, to make a digest of."""


class _Participant:
    """What a participant remembers between requests: the keys of one attempt, and whom it was summed with."""

    def __init__(
        self,
        name: str,
        jobs: Mapping[str, Job],
        policy: RoundPolicy,
        frames: Frames,
        log: Path | None,
        shown: tuple[type[Exception], ...],
        summed: Summed,
        keyring: Keyring | None,
        alike: Alike,
    ) -> None:
        self.name, self.jobs, self.policy = name, jobs, policy
        self.frames, self.log, self.shown = frames, log, shown
        self._ready: tuple[str, bytes, KeyPair] | None = None
        self._summed = summed
        self._keyring = keyring
        self._alike = alike

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            deadline = time.monotonic() + float(request["seconds"])
            plan = RoundPlan(**request["plan"]) if request.get("plan") else None
            ready = request["do"] == "ready"
            answer = self._get_ready(request, plan) if ready else self._work(request, plan, deadline)
            if time.monotonic() >= deadline:
                raise Lost({self.name: "its own deadline has passed"})
            return answer
        except Exception as error:
            why = error if isinstance(error, ChorusError) else self._logged(error)
            return {"say": "error", "error": to_message(why, self.shown)}

    def _get_ready(self, request: dict[str, Any], plan: RoundPlan | None) -> dict[str, Any]:
        if plan is None or self.name not in plan.cohort:
            raise Refused(f"{self.name}: is not invited to this round")
        told, pair = self._told(request, plan), KeyPair()
        self._ready = plan.label, told, pair
        shown = pair.public + told
        signed = shown if self._keyring is None else self._keyring.signed(plan.label, shown)
        return {"say": "ready", "shown": signed.hex()}

    def _told(self, request: dict[str, Any], plan: RoundPlan) -> bytes:
        """The digest of what it is told for a job, but for what is its own and for whom it is summed with."""
        job = request["job"]
        return digest([plan.label, plan.seed, job, self._alike(job, request["arguments"])])

    def _work(self, request: dict[str, Any], plan: RoundPlan | None, deadline: float) -> dict[str, Any]:
        job = self.jobs.get(request["job"])
        if job is None:
            raise BadInput(f"{self.name}: knows no job {request['job']!r}, only {sorted(self.jobs)}")
        if plan is None:
            result = job(request["arguments"], SocketChannel(self.name, self.frames, deadline, None, None))
        else:
            masks = self._agree(request, plan)
            result = self._add(job, request, plan, masks, deadline)
        return {"say": "result", "result": result}

    def _add(
        self, job: Job, request: dict[str, Any], plan: RoundPlan, masks: Masks | None, deadline: float
    ) -> dict[str, Any]:
        """The job among the cohort; with whom it is added is noted before a term leaves."""
        before = self._object_to_exposure(plan, request["job"], request["arguments"])
        work = work_of(request["job"], request["arguments"])

        def note() -> None:
            if self._summed.cohort(plan, work) != plan.cohort:
                self._summed.note(plan, work, plan.cohort)

        channel = SocketChannel(self.name, self.frames, deadline, plan, masks, note)
        try:
            return job(request["arguments"], channel)
        except ChorusError:  # the attempt is over: what was not opened never will be
            if not channel.opened and before is None:
                self._summed.note(plan, work, None)
            raise

    def _agree(self, request: dict[str, Any], plan: RoundPlan) -> Masks | None:
        """The masks of this attempt; its keys are used up."""
        ready, self._ready = self._ready, None
        told, publics = self._told(request, plan), request.get("publics")
        work = f"{plan.label}, {request['job']}"
        if ready is None or ready[:2] != (plan.label, told):
            raise Refused(f"{self.name}: was not asked whether it is ready for {work}, as it is told now")
        if self.name not in plan.cohort or len(plan.cohort) < self.policy.minimum:
            raise Refused(
                f"{self.name}: agreed to sums of {self.policy.minimum} or more with itself, "
                f"not of {list(plan.cohort)}"
            )
        if publics is None:
            if self.policy.masks:
                raise Refused(f"{self.name}: did not agree to sums without masks")
            return None
        signed = {who: bytes.fromhex(key) for who, key in publics.items()}
        if self._keyring is not None:
            self._keyring.check(plan.label, signed)
        if odd := sorted(who for who, key in signed.items() if key[PUBLIC:SHOWN] != told):
            raise Refused(f"{self.name}: was told something else for {work}, than {', '.join(odd)}")
        return Masks(self.name, ready[2], {who: key[:PUBLIC] for who, key in signed.items()}, plan, told)

    def _object_to_exposure(self, plan: RoundPlan, job: str, told: dict[str, Any]) -> tuple[str, ...] | None:
        """An update goes into one opened sum: the difference of two cohorts' sums is somebody's own.

        Returns among whom it was summed before, which is remembered by the plan's run and number.
        """
        if (told.get("run", plan.run), told.get("number", plan.number)) != (plan.run, plan.number):
            raise Refused(f"{self.name}: the job is of another round than the plan {plan.run}/{plan.number}")
        before = self._summed.cohort(plan, work_of(job, told))
        if before not in (None, plan.cohort) and self.policy.on_loss == "wait":
            raise Refused(
                f"{self.name}: was summed in {plan.run}/{plan.number} among {before}; a second sum "
                f"among {plan.cohort} would expose the difference"
            )
        return before

    def _logged(self, error: Exception) -> Exception:
        """The error, its traceback in the log; where that cannot be written (its disk is full), why not."""
        if self.log is None:
            traceback.print_exc(file=sys.stderr)
            return error
        try:
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "a", errors="backslashreplace") as log:
                traceback.print_exc(file=log)
        except OSError as full:
            return full
        return error


def serve(
    connection: socket.socket,
    name: str,
    jobs: Mapping[str, Job],
    policy: RoundPolicy | None = None,
    log: Path | None = None,
    shown: tuple[type[Exception], ...] = (),
    memory: Path | None = None,
    keyring: Keyring | None = None,
    alike: Alike = lambda job, arguments: arguments,
) -> None:
    """Answer requests until the connection closes; the process then ends.

    `policy` is this participant's own copy of what was agreed.  Tracebacks go to `log` (mode 0600), or to
    stderr.  Texts of exceptions of the types `shown` may be shown to the coordinator.  With whom its terms
    were added is kept in `<memory>/<run>`, where it is given: a process started anew then knows it, too.
    With a `keyring` its keys are signed, and those of others checked.  It adds to a sum only with those who
    were told the same of what is told `alike`.
    """
    _end_with(connection)
    frames = Frames(connection)
    policy, summed = policy or RoundPolicy(), Summed(memory)
    participant = _Participant(name, jobs, policy, frames, log, shown, summed, keyring, alike)
    try:
        while True:
            request, _ = frames.receive()
            _send(frames, participant.answer(request))
    except (OSError, EOFError, Disconnected, NotAFrame):
        frames.close()


def _send(frames: Frames, answer: dict[str, Any]) -> None:
    """Send the answer; in place of one that is too large, that it is."""
    try:
        frames.send(answer)
    except Refused as error:
        frames.send({"say": "error", "error": to_message(error)})


def _end_with(connection: socket.socket) -> None:
    """Watch the connection from a thread of its own: when its other end goes, so does this process."""

    def watch() -> None:
        poll = select.poll()
        poll.register(connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, name="watch the connection", daemon=True).start()
