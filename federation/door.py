"""The coordinator's end of a participant: a process of its own that is asked, watched, and ended at the
deadline, then connected anew.
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from pydantic import ValidationError

from federation.channel import Vector
from federation.errors import ChorusError, Lost, Refused
from federation.frames import Frames, NotAFrame
from federation.keyring import is_signed
from federation.masks import serves
from federation.messages import GRACE, from_message, to_message
from federation.plan import RoundPlan
from federation.relay import HEADERS, Relay

Read = Callable[[str], Vector]


class Peer(Protocol):
    """What is behind a door: the participant's process, started here or connected from another machine."""

    def connect(self, seconds: float) -> socket.socket:
        """A connection to it; raises `Lost` where there is none in time, `BadInput` where it cannot start."""

    def gone(self) -> bool:
        """Whether the one that was connected is known to have ended."""

    def kill(self) -> None:
        """End it now, from any thread; whoever waits for it hears that the connection is closed."""

    def end(self) -> str:
        """Kill and forget it; returns how it ended."""


class Door:
    """The coordinator's end of one participant, which is connected when it is first asked.

    Doors may be asked from several threads; each answers one request at a time.  Who has a `certificate`
    (DER) signs its keys.
    """

    def __init__(self, name: str, peer: Peer, certificate: bytes | None = None) -> None:
        self.name = name
        self.peer = peer
        self._certificate = certificate
        self.starts = 0
        self._asking = threading.Lock()
        self._frames: Frames | None = None

    def ready(
        self,
        plan: RoundPlan,
        job: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        deadline_seconds: float,
    ) -> str:
        """A fresh public key for this attempt at `job`, and the digest of what it is told for that.

        Both are signed where it has a certificate, and in hexadecimal.  Raises `Lost` where none comes in
        time, and `Refused` for one that serves nobody: else the others would refuse it, and be left out in
        its place.
        """
        request = {"do": "ready", **_told(job, arguments, plan)}
        shown = str(self._request(request, None, None, deadline_seconds).get("shown"))
        if not (re.fullmatch("[0-9a-f]{128}([0-9a-f]{128})?", shown) and serves(bytes.fromhex(shown[:64]))):
            raise Refused(f"{self.name}: its public key is not one of X25519")
        own = self._certificate
        if own is not None and not is_signed(own, plan.label, self.name, bytes.fromhex(shown)):
            raise Refused(f"{self.name}: its public key is not signed by the key of its certificate")
        return shown

    def ask(
        self,
        job: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        plan: RoundPlan | None = None,
        relay: Relay | None = None,
        keys: Mapping[str, str] | None = None,
        read: Read | None = None,
        deadline_seconds: float = 600.0,
    ) -> dict[str, Any]:
        """What the job `job` returns for `arguments`; its sums go through `relay`.

        Raises `Lost` where the participant is silent at the deadline or ends (it is then killed, and
        started anew when it is asked next), and the participant's own error where it reports one.
        """
        publics = None if keys is None else dict(keys)
        request = {"do": "job", **_told(job, arguments, plan), "publics": publics}
        result = self._request(request, relay, read, deadline_seconds).get("result")
        if not isinstance(result, dict):
            raise Refused(f"{self.name}: job {job!r} returned no table of disclosures")
        return result

    def kill(self) -> None:
        """End the process now, from any thread; whoever waits for it gets `Lost`."""
        self.peer.kill()

    def close(self) -> None:
        """End the process and wait for its end; the door can be asked again."""
        self.kill()
        with self._asking:
            self._end()

    def __enter__(self) -> "Door":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(
        self, request: dict[str, Any], relay: Relay | None, read: Read | None, seconds: float
    ) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        if not self._asking.acquire(timeout=seconds):
            raise Lost({self.name: f"busy with another request for {seconds:g} s"})
        try:
            frames = self._connected(seconds)
            frames.send({**request, "seconds": deadline - time.monotonic()}, deadline=deadline)
            return _Conversation(self.name, frames, relay, read, deadline).reply()
        except TimeoutError:
            self._end()
            raise Lost({self.name: f"silent until its deadline of {seconds:g} s"}) from None
        except (EOFError, ConnectionError):  # other errors of the system are ours: a sum that cannot be kept
            raise Lost({self.name: self._end()}) from None
        except NotAFrame as error:
            self._end()
            raise Refused(f"{self.name}: {error}") from None
        except ChorusError:
            raise
        except BaseException:
            self._end()
            raise
        finally:
            self._asking.release()

    def _connected(self, seconds: float) -> Frames:
        if self.peer.gone():
            self._end()
        if self._frames is None:
            self._frames = Frames(self.peer.connect(seconds))
            self.starts += 1
        return self._frames

    def _end(self) -> str:
        """Kill and forget the process; returns how it ended."""
        how = self.peer.end()
        if self._frames is not None:
            self._frames.close()
        self._frames = None
        return how


class _Conversation:
    """What the coordinator answers while a participant works on one request."""

    def __init__(
        self, name: str, frames: Frames, relay: Relay | None, read: Read | None, deadline: float
    ) -> None:
        self.name, self.frames, self.relay, self.read, self.deadline = name, frames, relay, read, deadline
        self.latest = deadline + GRACE  # however often it errs

    def reply(self) -> dict[str, Any]:
        """The participant's final answer; raises the error that it reports."""
        while True:
            message, size = self.frames.receive(deadline=self.deadline)
            if message.get("say") == "error":
                raise from_message(message.get("error"), self.name)
            if message.get("say") in ("result", "ready"):
                return message
            try:
                self._serve(message, size)
            except ChorusError as error:
                self.deadline = self.latest
                self.frames.send({"error": to_message(error)}, deadline=self.deadline)

    def _serve(self, message: dict[str, Any], size: int) -> None:
        if message.get("say") == "sum" and self.relay is not None:
            self._add(self.relay, message, size)
        elif message.get("say") == "read" and self.read is not None:
            total = np.ascontiguousarray(self.read(str(message.get("name"))))
            header = {"dtype": total.dtype.str, "shape": list(total.shape)}
            self.frames.send(header, total.reshape(-1).view(np.uint8).data, deadline=self.deadline)
        else:
            raise Refused(f"{self.name}: may not say {message.get('say')!r} in this job")

    def _add(self, relay: Relay, message: dict[str, Any], size: int) -> None:
        try:
            header = HEADERS.validate_python(message["sum"])
            part = _part(message["part"], header.length)
        except (ValidationError, KeyError, ValueError):
            relay.fail(self.name, "its contribution has no readable header")
            raise Refused(f"{self.name}: its contribution has no readable header") from None
        if size != header.length * header.form.dtype.itemsize:
            relay.fail(self.name, f"gave {size} bytes for {header.length} words of {header.form.dtype}")
        total = relay.add(self.name, header, self.frames.payload(deadline=self.deadline), part)
        answer = {"present": list(relay.plan.cohort)}
        self.frames.send(answer, total.words[part].view(np.uint8).data, deadline=self.deadline)


def _told(job: str, arguments: Mapping[str, Any] | None, plan: RoundPlan | None) -> dict[str, Any]:
    """What a participant is told of a job, when it is asked whether it is ready, and when it is to work."""
    told_plan = None if plan is None else plan.model_dump()
    return {"job": job, "arguments": dict(arguments or {}), "plan": told_plan}


def _part(asked: Any, length: int) -> slice:
    """The words that a participant wants to hear, as it tells them: first, end."""
    if not isinstance(asked, list) or len(asked) != 2 or not all(type(at) is int for at in asked):
        raise ValueError("expected two places")
    first, end = asked
    if not 0 <= first <= end <= length:
        raise ValueError(f"expected places from 0 to {length}")
    return slice(first, end)
