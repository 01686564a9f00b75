"""The union of the participants' sets of texts, as a sum that tells nothing else.

An invertible Bloom lookup table (Goodrich and Mitzenmacher 2011): each text adds a row to three cells that
its hash chooses.  Tables add up; a cell of the sum with one row alone tells it, and taking that row away lays
others bare.  Each participant multiplies each row by a random word of the ring.  So the multiple of a row in
the sum is uniform, however many have the text, and the opened table depends on the union alone.
"""

import hashlib
import secrets
import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel
from federation.errors import Refused
from federation.fixed_point import FixedPoint

WORDS = FixedPoint(width=64, fraction_bits=0, terms=None, signed=False)
"""The form of a table: sums mod 2^64 are meant."""

PIECE = 32
"""Bytes of a text in a row; a longer text has several rows."""

_ROW = struct.Struct(f"<QII{PIECE}s")
"""Hash of a text, its bytes, the piece's place, the piece: read as limbs of 32 bits, which a cell adds up."""

_LIMBS = _ROW.size // 4
_HASHES = 3
_SIZES = tuple(_HASHES << bits for bits in range(9, 21, 2))
"""How many cells a table may have: up to 164 MB, for a million pieces."""

_PEELS = 100
"""Times that what lies bare is taken away: far more than a readable table needs."""

_ONE, _ALL = np.uint64(1), np.uint64((1 << 64) - 1)

Limbs = NDArray[np.uint64]


def union(channel: Channel, texts: Collection[str], label: str = "union") -> list[str]:
    """Every text that somebody of the cohort has, ascending.

    The table grows until it can be read, so its size tells nothing but the union's.  Raises `Refused` where
    somebody's term was no table of texts.
    """
    rows = _rows(texts)
    hashes = _hashes(rows)
    for cells in _SIZES:
        opened = channel.sum(f"{label}/{cells}", _table(rows, hashes, cells).ravel(), WORDS)
        if (found := _peeled(opened.reshape(cells, 1 + _LIMBS))) is not None:
            return _texts(found)
    raise Refused(
        f"the sum {label!r} is no table of texts: there are too many, or somebody added something else"
    )


def _rows(texts: Iterable[str]) -> Limbs:
    """The rows of all pieces of the texts, (rows, limbs)."""
    packed = bytearray()
    for text in {*texts}:
        said = text.encode()
        for place, start in enumerate(range(0, max(len(said), 1), PIECE)):
            packed += _ROW.pack(_hash(said), len(said), place, said[start : start + PIECE])
    return np.frombuffer(packed, "<u4").reshape(-1, _LIMBS).astype(np.uint64)


def _table(rows: Limbs, hashes: Limbs, cells: int) -> Limbs:
    """The table of `rows`: in each cell the sum of multipliers, then of the rows times these."""
    table = np.zeros((cells, 1 + _LIMBS), np.uint64)
    multipliers = np.frombuffer(secrets.token_bytes(8 * len(rows)), np.uint64)
    _add(table, multipliers, rows, _places(hashes, cells))
    return table


def _add(table: Limbs, multipliers: Limbs, rows: Limbs, places: NDArray[np.int64]) -> None:
    terms = np.column_stack([multipliers, multipliers[:, None] * rows])
    for cells in places.T:
        np.add.at(table, cells, terms)


def _hashes(rows: Limbs) -> Limbs:
    """What chooses the cells of each row, (rows, 3)."""
    each = (hashlib.blake2b(row.tobytes(), digest_size=8 * _HASHES).digest() for row in rows)
    return np.frombuffer(b"".join(each), np.uint64).reshape(-1, _HASHES)


def _places(hashes: Limbs, cells: int) -> NDArray[np.int64]:
    """The cells of each row, one in each third of the table, (rows, 3)."""
    third = cells // _HASHES
    return (hashes % np.uint64(third)).astype(np.int64) + third * np.arange(_HASHES)


def _peeled(table: Limbs) -> Limbs | None:
    """The rows that a table is made of; none where not all can be told."""
    table, found, left = table.copy(), [np.zeros((0, _LIMBS), np.uint64)], len(table) + 1
    for _ in range(_PEELS):
        if not table.any():
            return np.concatenate(found)
        if (now := int(np.count_nonzero(table[:, 0]))) >= left:  # stuck, or round in a circle
            break
        cells, multipliers, rows = _alone(table)
        places = _places(_hashes(rows), len(table))
        own = np.flatnonzero((places == cells[:, None]).any(axis=1))
        own = own[np.unique(rows[own], axis=0, return_index=True)[1]]
        _add(table, -multipliers[own], rows[own], places[own])
        found.append(rows[own])
        left = now
    return None


def _alone(table: Limbs) -> tuple[NDArray[np.int64], Limbs, Limbs]:
    """The cells that seem to be of one row, its multiplier, and the row.

    A multiplier is 2^k times an odd number, which has an inverse: so a limb follows mod 2^(64 - k), and has
    but 32 bits.  In a cell of several rows hardly all limbs come out below 2^32.
    """
    cells = np.flatnonzero(table[:, 0])
    multipliers, words = table[cells, :1], table[cells, 1:]
    shift = np.bitwise_count(~multipliers & (multipliers - _ONE)).astype(np.uint64)
    odd = multipliers >> shift
    inverse = odd.copy()  # right in three bits; each of Newton's steps doubles them
    for _ in range(5):
        inverse *= np.uint64(2) - odd * inverse
    rows = ((words >> shift) * inverse) & (_ALL >> shift)
    alone = ((rows >> np.uint64(32)) == 0).all(axis=1)
    return cells[alone], multipliers[alone, 0], rows[alone]


def _texts(rows: Limbs) -> list[str]:
    """The texts whose pieces the rows are, ascending; raises `Refused` where some are of none."""
    pieces: dict[tuple[int, int], dict[int, bytes]] = defaultdict(dict)
    for row in rows.astype("<u4"):
        known, size, place, piece = _ROW.unpack(row.tobytes())
        pieces[known, size][place] = piece
    return sorted(_text(known, size, each) for (known, size), each in pieces.items())


def _text(known: int, size: int, pieces: Mapping[int, bytes]) -> str:
    said = b"".join(pieces[place] for place in sorted(pieces))[:size]
    try:
        text = said.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or _hash(said) != known:
        raise Refused("somebody added pieces of no text to a sum of texts")
    return text


def _hash(said: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "little")
