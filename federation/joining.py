"""The participant's end of a connection to a coordinator on another machine."""

import socket
import ssl
from contextlib import ExitStack

from federation.errors import Refused
from federation.listener import HANDSHAKE_SECONDS, WELCOME, keep_alive


def dial(address: tuple[str, int]) -> socket.socket:
    """A connection to `address` (host, port), not yet encrypted; raises `OSError` where nobody answers."""
    return socket.create_connection(address, timeout=HANDSHAKE_SECONDS)


def welcomed(plain: socket.socket, tls: ssl.SSLContext, other: bytes) -> ssl.SSLSocket:
    """The connection over TLS, once the coordinator, whose certificate is `other` (DER), has let us in.

    Raises `Refused` where one of the two does not know the other's certificate, and `OSError` where the
    connection ends before that is known, as when a run is over just then.
    """
    plain.settimeout(HANDSHAKE_SECONDS)
    with ExitStack() as stack:
        known, heard = True, b""
        try:
            connection = stack.enter_context(tls.wrap_socket(plain))
            known = connection.getpeercert(binary_form=True) == other
            heard = connection.recv(len(WELCOME))
            keep_alive(connection)
        except ssl.SSLCertVerificationError:
            known = False
        except ssl.SSLEOFError:
            heard = b""
        except ssl.SSLError as error:
            heard = str(error.reason).encode()
        if not known:
            raise Refused("whoever answers there does not hold the key of coordinator.certificate")
        if not heard:
            raise ConnectionResetError("it ended the connection before it said a word")
        if heard != WELCOME:
            raise Refused(
                f"the coordinator turned us away (found {heard!r}, expected {WELCOME!r}); it may have "
                "another certificate of ours, or another version of Chorus"
            )
        stack.pop_all()
        return connection
