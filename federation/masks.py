"""Pairwise masks: every participant's words look random, and in the sum the masks cancel.

Bonawitz et al. 2017 ("Practical Secure Aggregation for Privacy-Preserving Machine Learning") without
the secret shares: a cohort that loses someone is summed anew under fresh keys.  Each pair agrees on a
key by X25519 and HKDF-SHA256; its AES-256-CTR keystream is added by the one whose name sorts lower and
subtracted by the other.  A key serves one pair in one attempt, so counters may start at fixed places.
It is bound to what each was told for the job: masks of two who were told different things do not cancel.
In a large cohort not all pairs do, but neighbours in a ring (Bell et al. 2020, "Secure Single-Server
Aggregation with (Poly)Logarithmic Overhead"): what masking costs does not grow with the cohort.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from federation.errors import Refused
from federation.fixed_point import Words
from federation.plan import RoundPlan

BLOCK = 1 << 16
"""Bytes of a pad that are made at once, so that they and a keystream stay in the cache."""

REACH = 12
"""How far neighbours go to either side: with the keys of fewer than 24 participants one learns of the others
nothing but their sum."""

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
    """One participant's masks in one attempt: for each width of word a pad that goes on from sum to sum.

    They cancel only among those who have the same digest of what they were `told`.
    """

    def __init__(
        self, name: str, pair: KeyPair, publics: Mapping[str, bytes], plan: RoundPlan, told: bytes = b""
    ) -> None:
        if set(publics) != set(plan.cohort) or name not in publics or len(publics) < 2:
            raise Refused(f"{name}: keys of {sorted(publics)} do not fit the cohort {list(plan.cohort)}")
        if publics[name] != pair.public:
            raise Refused(f"{name}: the key that is shown as its own is not its own")
        self.cohort = plan.cohort
        peers = sorted(neighbours(name, plan.cohort))
        bound_to = ("chorus masks 3", plan.label, told.hex())
        self._adds, self._subtracts = (
            [_key(name, peer, pair, publics, bound_to) for peer in peers if (name < peer) is adds]
            for adds in (True, False)
        )
        self._pads: dict[int, _Pad] = {}

    def apply(self, words: Words) -> Words:
        """`words` plus the next piece of the sum of this participant's masks."""
        pad = self._pads.get(words.itemsize)
        if pad is None:
            pad = self._pads[words.itemsize] = _Pad(self._adds, self._subtracts, words.dtype)
        masked, start = np.empty_like(words), 0
        while start < words.size:
            piece = pad.next(words.size - start)
            end = start + piece.size
            np.add(words[start:end], piece, out=masked[start:end])
            start = end
        return masked

    def __repr__(self) -> str:
        return f"Masks(among {', '.join(self.cohort)})"


def serves(public: bytes) -> bool:
    """Whether it is a public key with which others can agree on one: points of small order are none."""
    try:
        KeyPair().agree(public, b"")
    except ValueError:
        return False
    return True


def neighbours(name: str, cohort: Collection[str]) -> set[str]:
    """With whom `name` shares a mask: `REACH` to either side in the ring by name, up to 25 participants all.

    The ring stays in one piece whichever 23 are taken out (Harary 1962, "The Maximum Connectivity of a
    Graph"), and of a piece all terms look uniform but for their sum.
    """
    ring = sorted(cohort)
    place = ring.index(name)
    return {ring[(place + step) % len(ring)] for step in range(-REACH, REACH + 1)} - {name}


class _Pad:
    """The keystreams of all neighbours, added up as words of one width, a block at a time.

    The counters of different widths begin 2^120 apart, so that no two pads share a piece of a keystream.
    """

    def __init__(
        self, adds: Sequence[algorithms.AES], subtracts: Sequence[algorithms.AES], kind: np.dtype[Any]
    ) -> None:
        first = bytes([kind.itemsize]) + bytes(15)
        self._adds, self._subtracts = (
            [Cipher(key, modes.CTR(first)).encryptor() for key in keys] for keys in (adds, subtracts)
        )
        self._keystream = bytearray(BLOCK + algorithms.AES.block_size // 8 - 1)
        self._like = np.frombuffer(self._keystream, kind, BLOCK // kind.itemsize)
        self._words: Words = np.empty_like(self._like)
        self._used = self._words.size

    def next(self, most: int) -> Words:
        """The next words of the pad, up to `most`; each is given once."""
        if self._used == self._words.size:
            self._fill()
        piece = self._words[self._used : self._used + most]
        self._used += piece.size
        return piece

    def _fill(self) -> None:
        self._words[:] = 0
        for streams, join in ((self._adds, np.add), (self._subtracts, np.subtract)):
            for stream in streams:
                stream.update_into(_ZEROS, self._keystream)
                join(self._words, self._like, out=self._words)
        self._used = 0


def _key(
    name: str, peer: str, pair: KeyPair, publics: Mapping[str, bytes], bound_to: Sequence[str]
) -> algorithms.AES:
    lower, higher = sorted((name, peer))
    info = json.dumps([*bound_to, lower, higher, publics[lower].hex(), publics[higher].hex()])
    try:
        return algorithms.AES(pair.agree(publics[peer], info.encode()))
    except ValueError:
        raise Refused(f"{peer}: its public key is not one of X25519") from None
