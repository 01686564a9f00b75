"""Keys and certificates: what they sign, and what is told where one is not what it should be."""

import socket
import stat

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from federation import identity
from federation.errors import BadInput, Refused
from federation.keyring import SHOWN, Keyring
from federation.listener import Listener


@pytest.fixture
def folder(tmp_path):
    """Keys and certificates of a, b and c."""
    for name in "abc":
        identity.create(name, tmp_path / f"{name}.key", tmp_path / f"{name}.crt")
    return tmp_path


def test_a_signature_is_of_one_attempt_and_one_name(folder):
    known = {name: folder / f"{name}.crt" for name in "ab"} | {"here": None}
    a, b = (Keyring(name, folder / f"{name}.key", known) for name in "ab")
    key = a.signed("r/0/0", bytes(SHOWN))
    b.check("r/0/0", {"a": key, "here": bytes(SHOWN)})
    for label, who in (("r/0/1", "a"), ("r/0/0", "b")):
        with pytest.raises(Refused, match=f"b: the key shown as {who}'s"):
            b.check(label, {who: key})


def test_what_was_told_is_signed_with_the_key(folder):
    """Else a coordinator that tells a something else could show others that it was the same."""
    known = {name: folder / f"{name}.crt" for name in "ab"}
    a, b = (Keyring(name, folder / f"{name}.key", known) for name in "ab")
    key = bytearray(a.signed("r/0/0", bytes(SHOWN)))
    key[SHOWN - 1] = 1
    with pytest.raises(Refused, match="b: the key shown as a's is not signed by it"):
        b.check("r/0/0", {"a": bytes(key)})


def test_what_is_wrong_with_keys_and_certificates_is_told(folder):
    assert stat.S_IMODE((folder / "a.key").stat().st_mode) == 0o600
    with pytest.raises(BadInput, match=r"a\.key: exists already"):
        identity.create("a", folder / "a.key", folder / "new.crt")
    with pytest.raises(BadInput, match=r"none\.crt: found none, expected"):
        identity.read(folder / "none.crt")
    with pytest.raises(BadInput, match=r"a\.key: found no certificate"):
        identity.read(folder / "a.key")
    with pytest.raises(BadInput, match=r"b\.key: is not the key of .*a\.crt"):
        identity.client_side(folder / "b.key", folder / "a.crt", identity.read(folder / "c.crt"))
    with pytest.raises(BadInput, match=r"none\.key: found none"):
        identity.server_side(folder / "none.key", folder / "a.crt", [])
    locked = load_pem_private_key((folder / "a.key").read_bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (folder / "locked.key").write_bytes(locked)
    with pytest.raises(BadInput, match=r"locked\.key: is not the key"):  # nobody is asked for a password
        identity.client_side(folder / "locked.key", folder / "a.crt", identity.read(folder / "c.crt"))
    with pytest.raises(FileExistsError):
        identity.create("new", folder / "new.key", folder / "a.crt" / "new.crt")
    assert not (folder / "new.key").exists()  # else it would be in the way of the next try
    certificate = identity.read(folder / "a.crt")
    with pytest.raises(BadInput, match="participants: a and b have the same certificate"):
        Listener(("127.0.0.1", 0), None, {"a": certificate, "b": certificate})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
        tls = identity.server_side(folder / "a.key", folder / "a.crt", [])
        with pytest.raises(BadInput, match=f"coordinator.listen: cannot listen at 127.0.0.1:{address[1]}"):
            Listener(address, tls, {})
