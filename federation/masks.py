"""Pairwise masks: every participant's words look random, and in the sum the masks cancel.

Bonawitz et al. 2017 ("Practical Secure Aggregation for Privacy-Preserving Machine Learning") without
the secret shares: a cohort that loses someone is summed anew under fresh keys.  Each pair agrees on a
key by X25519 and HKDF-SHA256; its AES-256-CTR keystream is added by the one whose name sorts lower and
subtracted by the other.  A key serves one pair in one attempt, so the counter may start at zero.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from federation.errors import Refused
from federation.fixed_point import Words
from federation.plan import RoundPlan

BLOCK = 1 << 17
"""Bytes of keystream held at once."""

_ZEROS = bytes(BLOCK)


class KeyPair:
    """An X25519 key pair that serves one attempt; only its public half can be read."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def agree(self, public: bytes, info: bytes) -> bytes:
        """32 bytes that only the two owners of these keys can derive; bound to `info`."""
        shared = self._private.exchange(X25519PublicKey.from_public_bytes(public))
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(shared)

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"


class Masks:
    """One participant's masks in one attempt: a stream that goes on from sum to sum."""

    def __init__(self, name: str, pair: KeyPair, publics: Mapping[str, bytes], plan: RoundPlan) -> None:
        if set(publics) != set(plan.cohort) or name not in publics or len(publics) < 2:
            raise Refused(f"{name}: keys of {sorted(publics)} do not fit the cohort {list(plan.cohort)}")
        if publics[name] != pair.public:
            raise Refused(f"{name}: the key that is shown as its own is not its own")
        self.cohort = plan.cohort
        self._keystream = bytearray(BLOCK + algorithms.AES.block_size // 8 - 1)
        self._adds: list[CipherContext] = []
        self._subtracts: list[CipherContext] = []
        for peer in sorted(set(publics) - {name}):
            stream = _keystream(name, peer, pair, publics, plan.label)
            (self._adds if name < peer else self._subtracts).append(stream)

    def apply(self, words: Words) -> Words:
        """`words` plus the next piece of every mask of this participant."""
        masked = words.copy()
        step = BLOCK // words.itemsize
        for start in range(0, words.size, step):
            block = masked[start : start + step]
            for stream in self._adds:
                np.add(block, self._next(stream, block), out=block)
            for stream in self._subtracts:
                np.subtract(block, self._next(stream, block), out=block)
        return masked

    def _next(self, stream: CipherContext, like: Words) -> NDArray[Any]:
        stream.update_into(memoryview(_ZEROS)[: like.nbytes], self._keystream)
        return np.frombuffer(self._keystream, like.dtype, like.size)

    def __repr__(self) -> str:
        return f"Masks(among {', '.join(self.cohort)})"


def _keystream(
    name: str, peer: str, pair: KeyPair, publics: Mapping[str, bytes], label: str
) -> CipherContext:
    lower, higher = sorted((name, peer))
    info = json.dumps(["chorus masks 1", label, lower, higher, publics[lower].hex(), publics[higher].hex()])
    try:
        key = pair.agree(publics[peer], info.encode())
    except ValueError:
        raise Refused(f"{peer}: its public key is not one of X25519") from None
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
