import contextlib
import datetime
import errno
import socket
import ssl
import struct
import threading
import time

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from federation.errors import Refused
from federation.frames import BLOCK, MAX_PAYLOAD, Frames


def over_tls(ours, theirs, folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.Encoding.PEM
    private = key.private_bytes(plain, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "both.pem").write_bytes(private + certificate.public_bytes(plain))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "both.pem")
    client = ssl.create_default_context(cafile=folder / "both.pem")
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    found = []
    thread = threading.Thread(target=lambda: found.append(server.wrap_socket(theirs, server_side=True)))
    thread.start()
    wrapped = client.wrap_socket(ours)
    thread.join()
    return wrapped, found[0]


@pytest.fixture(params=["socket pair", "TLS"])
def ends(request, tmp_path):
    pair = socket.socketpair()
    if request.param == "TLS":
        pair = over_tls(*pair, tmp_path)
    ours, theirs = Frames(pair[0]), Frames(pair[1])
    yield ours, theirs
    ours.close()
    theirs.close()


@contextlib.contextmanager
def sending(frames, *messages):
    def send():
        for header, payload in messages:
            frames.send(header, payload)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize("length", [0, 1, 1 << 16, 3 * BLOCK + 5])
def test_headers_and_payloads_arrive(ends, length):
    payload = np.random.default_rng(1).bytes(length)
    with sending(ends[0], ({"a": [1, None, "ü😀"]}, payload), ({}, b"")):
        assert ends[1].receive() == ({"a": [1, None, "ü😀"]}, length)
        assert b"".join(map(bytes, ends[1].payload())) == payload
        assert ends[1].receive() == ({}, 0)


def test_an_unread_payload_is_dropped(ends):
    with sending(ends[0], ({"n": 1}, bytes(2 * BLOCK)), ({"n": 2}, b"xyz"), ({"n": 3}, b"")):
        assert ends[1].receive()[0] == {"n": 1}
        next(ends[1].payload())
        assert ends[1].receive()[0] == {"n": 2}
        assert ends[1].whole() == b"xyz"
        assert ends[1].receive()[0] == {"n": 3}


def test_a_deadline_ends_waiting(ends):
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        ends[1].receive(deadline=started + 0.1)
    with pytest.raises(TimeoutError):
        ends[0].send({}, bytes(64 * BLOCK), deadline=time.monotonic() + 0.1)
    assert time.monotonic() - started < 3


def test_nothing_is_sent_after_the_deadline(ends):
    with pytest.raises(TimeoutError):
        ends[0].send({}, deadline=time.monotonic() - 1)
    ends[1].connection.settimeout(0.05)
    with pytest.raises(TimeoutError):
        ends[1].connection.recv(1)


def test_a_closed_connection_is_told(ends):
    ends[0].close()
    with pytest.raises((EOFError, OSError)):
        ends[1].receive()


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\n",
        struct.pack(">4sIQ", b"CHO1", 1 << 30, 0),
        struct.pack(">4sIQ", b"CHO1", 2, MAX_PAYLOAD + 1),
        struct.pack(">4sIQ", b"CHO1", 2, 0) + b"[]",
        struct.pack(">4sIQ", b"CHO1", 2, 0) + b"\xff{",
        struct.pack(">4sIQ", b"CHO1", 14, 0) + b'{"a":"\\ud800"}',
        struct.pack(">4sIQ", b"CHO1", 11, 0) + b'{"a":"\xed\xa0\x80"}',
        struct.pack(">4sIQ", b"CHO1", 100_000, 0) + b"[" * 100_000,
    ],
)
def test_refuses_what_is_not_a_frame(ends, start):
    ends[0].connection.sendall(start)
    with pytest.raises(Refused):
        ends[1].receive()


def test_who_is_given_up_by_the_network_is_gone_not_late():
    """Both are a `TimeoutError` to Python; only one of them is of a deadline of ours."""

    class GivenUp:
        def settimeout(self, seconds): ...

        def recv_into(self, view):
            raise OSError(errno.ETIMEDOUT, "Connection timed out")

    with pytest.raises(ConnectionError, match="Connection timed out"):
        Frames(GivenUp()).receive(deadline=time.monotonic() + 10)
