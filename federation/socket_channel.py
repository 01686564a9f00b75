"""A participant's channel to the coordinator's relay, at the other end of a connection."""

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from federation.channel import Vector
from federation.errors import Lost, Refused
from federation.fixed_point import FixedPoint
from federation.frames import Frames
from federation.layers import stack
from federation.masks import Masks
from federation.messages import GRACE, from_message
from federation.plan import RoundPlan
from federation.relay import Header


class Disconnected(BaseException):
    """The connection broke, or a deadline passed within a message: the process ends whatever the job does."""


class SocketChannel:
    """A participant's channel to a relay at the other end of a connection."""

    def __init__(
        self,
        name: str,
        frames: Frames,
        deadline: float,
        plan: RoundPlan | None,
        masks: Masks | None,
        on_send: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.cohort = () if plan is None else plan.cohort
        self.opened: list[str] = []
        self._on_send = on_send
        self._frames = frames
        self._deadline = deadline
        self._plan = plan
        self._stack = cache(partial(stack, masks=masks))

    def sum(self, name: str, vector: Vector, form: FixedPoint, part: slice | None = None) -> Vector:
        """The opened total over the cohort; see `Channel.sum`."""
        if self._plan is None:
            raise Refused(f"{self.name}: sum {name!r} in a job that belongs to no round")
        layers = self._stack(form)
        try:
            words = layers.on_participant(vector, self._plan)
        except Refused as error:
            raise Refused(f"{self.name}: sum {name!r}: {error}") from None
        header = Header(label=self._plan.label, name=name, form=form, length=words.size)
        heard = part or slice(0, words.size)
        message = {"say": "sum", "sum": header.told(), "part": [heard.start, heard.stop]}
        self._on_send()
        reply, size = self._ask(message, words.view(np.uint8).data)
        self.opened.append(name)
        if size != (heard.stop - heard.start) * words.itemsize:
            raise Refused(f"sum {name!r}: {size} bytes came back for {heard.stop - heard.start} words")
        total = np.frombuffer(self._rest(), words.dtype)
        return layers.on_aggregate(total, self._plan, reply["present"])

    def read(self, name: str) -> Vector:
        """A total that was opened earlier; see `Channel.read`."""
        reply, _ = self._ask({"say": "read", "name": name}, b"")
        return np.frombuffer(self._rest(), np.dtype(reply["dtype"])).reshape(reply["shape"])

    def _ask(self, header: dict[str, Any], payload: bytes | memoryview) -> tuple[dict[str, Any], int]:
        if time.monotonic() >= self._deadline:
            raise Lost({self.name: "its own deadline has passed"})
        try:
            self._frames.send(header, payload, deadline=self._deadline)
            reply, size = self._frames.receive(deadline=self._deadline + GRACE)
        except (OSError, EOFError) as error:
            raise Disconnected from error
        if "error" in reply:
            raise from_message(reply["error"])
        return reply, size

    def _rest(self) -> bytearray:
        try:
            return self._frames.whole(deadline=self._deadline + GRACE)
        except (OSError, EOFError) as error:
            raise Disconnected from error
