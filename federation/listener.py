"""Where participants on other machines connect, over TLS; each waits there until its door is asked."""

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping

from federation.errors import BadInput, Lost

HANDSHAKE_SECONDS = 10.0
"""In which who connects shows its certificate."""

WELCOME = b"CHORUS 2"
"""What who is let in hears first; who is turned away does not."""

MOST_TOLD = 1_000
"""Lines of who was turned away."""

MOST_HANDSHAKES = 64
"""At once; for one more the oldest is turned away: who is honest needs but a moment."""


class Listener:
    """Listens at `address` (host, port) for who holds the key of one of `certificates` (name to DER).

    `say` is told who is turned away, by address and reason.  Raises `BadInput` where it cannot listen.
    """

    def __init__(
        self,
        address: tuple[str, int],
        tls: ssl.SSLContext,
        certificates: Mapping[str, bytes],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._tls, self._say = tls, say
        self._names = {certificate: name for name, certificate in certificates.items()}
        for name in certificates.keys() - self._names.values():
            other = self._names[certificates[name]]
            raise BadInput(f"participants: {name} and {other} have the same certificate, expected two")
        self._changed = threading.Condition()
        self._waiting: dict[str, ssl.SSLSocket] = {}
        self._taken: dict[str, ssl.SSLSocket] = {}
        self._began, self._open = time.monotonic(), True
        self._told: set[str] = set()
        self._handshakes: dict[socket.socket, None] = {}  # in the order in which they came
        try:
            self._socket = socket.create_server(address)
        except OSError as error:
            where = "{}:{}".format(*address)
            raise BadInput(f"coordinator.listen: cannot listen at {where}: {error.strerror}") from None
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, name="listen", daemon=True).start()

    def take(self, name: str, seconds: float) -> ssl.SSLSocket:
        """The connection of participant `name`, as soon as there is one; raises `Lost` for none in time.

        That is counted from the beginning, or from now for who was here before: it has to come again.
        """
        with self._changed:
            until = (time.monotonic() if name in self._taken else self._began) + seconds
            while True:
                if not self._open:
                    raise Lost({name: "is not waited for any more"})
                if (found := self._waiting.pop(name, None)) is not None:
                    if not closed(found):
                        self._taken[name] = found
                        return found
                    found.close()
                elif not self._changed.wait(until - time.monotonic()):
                    raise Lost({name: f"has not connected within {seconds:g} s"})

    def close(self) -> None:
        """Listen no more, and close what waits."""
        with self._changed:
            self._open = False
            for each in self._waiting.values():
                each.close()
            self._waiting.clear()
            self._changed.notify_all()
        shut(self._socket)
        self._socket.close()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while self._open:
            try:
                plain, (host, *_) = self._socket.accept()
                threading.Thread(target=self._greet, args=(plain, host), daemon=True).start()
            except (OSError, RuntimeError):  # it is closed, or there is no room for another connection now
                time.sleep(0.1)

    def _greet(self, connection: socket.socket, host: str) -> None:
        """Let in whoever holds the key of a certificate that is known; others are told nothing."""
        try:
            connection.settimeout(HANDSHAKE_SECONDS)
            connection = encrypted = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
            self._make_room_for(encrypted)
            encrypted.do_handshake()
            name = self._names[encrypted.getpeercert(binary_form=True) or b""]
            keep_alive(encrypted)
            encrypted.sendall(WELCOME)
        except (OSError, KeyError) as error:
            connection.close()
            self._turned_away(host, error)
        else:
            self._welcome(name, encrypted)
        finally:
            with self._changed:
                self._handshakes.pop(connection, None)

    def _make_room_for(self, connection: socket.socket) -> None:
        with self._changed:
            self._handshakes[connection] = None
            if len(self._handshakes) > MOST_HANDSHAKES:
                oldest = next(iter(self._handshakes))
                del self._handshakes[oldest]
                shut(oldest)

    def _turned_away(self, host: str, error: Exception) -> None:
        """Tell it, once of each address and reason: who comes once may come a thousand times."""
        why = (
            "its certificate is nobody's" if isinstance(error, KeyError) else getattr(error, "reason", error)
        )
        told = f"a connection from {host} is turned away: {why}"
        if told not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(told)
            self._say(told)

    def _welcome(self, name: str, connection: ssl.SSLSocket) -> None:
        """It waits for its door; an older one of the same participant is of a process that has ended."""
        with self._changed:
            if (before := self._waiting.pop(name, None)) is not None:
                before.close()
            if (before := self._taken.get(name)) is not None and not closed(before):
                shut(before)
                self._say(f"{name} has come anew: its older connection is cut")
            if self._open:
                self._waiting[name] = connection
                self._changed.notify_all()
            else:
                connection.close()


class Remote:
    """A participant on another machine, behind a door: it connects by itself, and again when it was ended."""

    def __init__(self, name: str, listener: Listener, patience_seconds: float) -> None:
        self.name = name
        self._listener = listener
        self._patience_seconds = patience_seconds
        self._connection: ssl.SSLSocket | None = None

    def connect(self, seconds: float) -> socket.socket:
        """Its connection, waited for as long as a participant may take to start."""
        self._connection = self._listener.take(self.name, min(seconds, self._patience_seconds))
        return self._connection

    def gone(self) -> bool:
        """Whether its connection is closed, by it or because it came anew over another."""
        connection = self._connection
        return connection is not None and closed(connection)

    def kill(self) -> None:
        """Close the connection, from any thread; its process ends with it."""
        connection = self._connection
        if connection is not None:
            shut(connection)

    def end(self) -> str:
        """Close the connection and forget it."""
        self.kill()
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        return "its connection was closed"


def keep_alive(connection: socket.socket) -> None:
    """Let the system find out within minutes that the other machine or the line to it is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def shut(connection: socket.socket) -> None:
    """Stop whoever reads or writes there; TLS's own way would not."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def closed(connection: socket.socket) -> bool:
    """Whether the connection is closed, at one end or the other."""
    if connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))
