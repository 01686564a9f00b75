"""Keys of masks, signed by whose they are, so that a coordinator cannot put its own in their place."""

import json
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from federation import identity
from federation.errors import Refused
from federation.told import DIGEST

PUBLIC = 32
"""Bytes of a public key of X25519; the digest of what its owner was told follows."""

SHOWN = PUBLIC + DIGEST
"""Bytes of both; a signature follows."""


class Keyring:
    """Signs the own keys, and checks those of others by their certificates, where they have one."""

    def __init__(self, name: str, key: Path, certificates: Mapping[str, Path | None]) -> None:
        self.name = name
        private = load_pem_private_key(key.read_bytes(), None)
        assert isinstance(private, Ed25519PrivateKey)
        self._private = private
        self._known = {
            who: None if path is None else identity.read(path) for who, path in certificates.items()
        }

    def signed(self, label: str, shown: bytes) -> bytes:
        """What is `shown` for the attempt `label`, followed by a signature of both and the own name."""
        return shown + self._private.sign(_text(label, self.name, shown))

    def check(self, label: str, signed: Mapping[str, bytes]) -> None:
        """Raise `Refused` for a stranger, and for a key that is not signed by whose it is said to be."""
        if strangers := sorted(signed.keys() - self._known.keys()):
            raise Refused(f"{self.name}: its own file has no participant {', '.join(strangers)}")
        for who, key in signed.items():
            if (known := self._known[who]) is not None and not is_signed(known, label, who, key):
                raise Refused(f"{self.name}: the key shown as {who}'s is not signed by it")


def is_signed(certificate: bytes, label: str, who: str, key: bytes) -> bool:
    """Whether `key` is one for the attempt `label`, signed by `who`, whose `certificate` (DER) it is."""
    known = x509.load_der_x509_certificate(certificate).public_key()
    assert isinstance(known, Ed25519PublicKey)
    try:
        known.verify(key[SHOWN:], _text(label, who, key[:SHOWN]))
    except InvalidSignature:
        return False
    return True


def _text(label: str, name: str, shown: bytes) -> bytes:
    return json.dumps(["chorus key 2", label, name, shown.hex()]).encode()
