"""Messages over a stream socket: a JSON header and a binary payload, with size limits and deadlines.

Works over a socket pair and over TLS alike.  Nothing that is received is ever executed.
"""

import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

from federation.errors import Refused

MAX_HEADER = 1 << 26
"""Bytes; a grown model travels in a header, with about 100 for each leaf."""

MAX_PAYLOAD = 1 << 36
BLOCK = 1 << 20
"""Bytes of a payload sent or held at once."""

AHEAD = 1 << 13
"""Bytes that may be received before they are asked for."""

_SIZES = struct.Struct(">4sIQ")
_MAGIC = b"CHO1"

Buffer = bytes | bytearray | memoryview


class NotAFrame(Refused):
    """What arrived is not a frame, or one over the limits; where the next begins is unknown."""


class Frames:
    """One end of a connection.  Deadlines are in `time.monotonic()` seconds, None waits for ever.

    Raises `TimeoutError` at a deadline, `EOFError` or `ConnectionError` when the other end is gone, and
    `NotAFrame` for what is none.  After any of them only `close` makes sense.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._unread = 0
        self._block = memoryview(bytearray(0))
        self._buffer = memoryview(bytearray(AHEAD))
        self._ahead = self._buffer[:0]

    def send(self, header: dict[str, Any], payload: Buffer = b"", *, deadline: float | None = None) -> None:
        """Send one frame."""
        text = json.dumps(header).encode()
        body = memoryview(payload).cast("B") if len(payload) else memoryview(b"")
        if len(text) > MAX_HEADER or body.nbytes > MAX_PAYLOAD:
            raise Refused(f"a frame of {len(text)} + {body.nbytes} bytes is over the limit")
        start = _SIZES.pack(_MAGIC, len(text), body.nbytes) + text
        if body.nbytes <= 1 << 16:
            start, body = start + bytes(body), body[:0]
        self._send(memoryview(start), deadline)
        for offset in range(0, body.nbytes, BLOCK):
            self._send(body[offset : offset + BLOCK], deadline)

    def receive(self, *, deadline: float | None = None) -> tuple[dict[str, Any], int]:
        """The next frame's header and its payload's bytes; what was left of the payload before is dropped."""
        for _ in self.payload(deadline=deadline):
            pass
        magic, size, payload = _SIZES.unpack(self._exactly(_SIZES.size, deadline))
        if magic != _MAGIC or size > MAX_HEADER or payload > MAX_PAYLOAD:
            raise NotAFrame(f"not a frame, or one over the limit ({size} + {payload} bytes)")
        try:
            header = _read(self._exactly(size, deadline).decode())
        except (ValueError, RecursionError):  # the latter where it is nested too deeply
            header = None
        if not isinstance(header, dict):
            raise NotAFrame("expected a JSON object")
        self._unread = payload
        return header, payload

    def payload(self, *, deadline: float | None = None) -> Iterator[memoryview]:
        """The last frame's payload, block by block; a block is valid until the next is asked for."""
        if len(self._block) < min(self._unread, BLOCK):
            self._block = memoryview(bytearray(min(self._unread, BLOCK)))
        while self._unread:
            block = self._block[: min(self._unread, BLOCK)]
            self._fill(block, deadline)
            self._unread -= block.nbytes
            yield block

    def whole(self, *, deadline: float | None = None) -> bytearray:
        """The last frame's payload in one piece."""
        whole = bytearray(self._unread)
        self._fill(memoryview(whole), deadline)
        self._unread = 0
        return whole

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _exactly(self, size: int, deadline: float | None) -> bytes:
        piece = bytearray(size)
        self._fill(memoryview(piece), deadline)
        return bytes(piece)

    def _fill(self, view: memoryview, deadline: float | None) -> None:
        """Fill `view`; small ones through a buffer, so that a short message costs one system call."""
        while view.nbytes:
            if not self._ahead and view.nbytes < AHEAD:
                self._ahead = self._buffer[: self._receive_into(self._buffer, deadline)]
            if self._ahead:
                taken = min(view.nbytes, self._ahead.nbytes)
                view[:taken], self._ahead = self._ahead[:taken], self._ahead[taken:]
            else:
                taken = self._receive_into(view, deadline)
            view = view[taken:]

    def _receive_into(self, view: memoryview, deadline: float | None) -> int:
        self._wait_until(deadline)
        try:
            received = self.connection.recv_into(view)
        except OSError as error:
            raise _broken(error) from None
        if received == 0:
            raise EOFError("the connection was closed")
        return received

    def _send(self, view: memoryview, deadline: float | None) -> None:
        self._wait_until(deadline)
        try:
            self.connection.sendall(view)
        except OSError as error:
            raise _broken(error) from None

    def _wait_until(self, deadline: float | None) -> None:
        if deadline is None:
            self.connection.settimeout(None)
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        self.connection.settimeout(left)


def _broken(error: OSError) -> OSError:
    """The error, as one of the connection: TLS and networks have others, which are no fault of ours."""
    late = isinstance(error, TimeoutError) and error.errno is None  # else TCP gave the other machine up
    known = late or isinstance(error, ConnectionError)
    return error if known else ConnectionError(getattr(error, "reason", None) or error.strerror)


def _read(text: str) -> Any:
    """JSON whose texts are text; raises `ValueError` for half a surrogate pair, which none could store."""
    header = json.loads(text)
    if "\\u" in text:
        json.dumps(header, ensure_ascii=False).encode()
    return header
