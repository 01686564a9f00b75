"""LightGBM's network of a participant: its callbacks' types, and how this build lays out what it gathers."""

import ctypes
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import lightgbm
import numpy as np
from lightgbm import basic
from numpy.typing import NDArray

from federation.channel import Channel
from federation.errors import Refused
from recommenders.compiled import compiled
from recommenders.histograms import ROW

Bytes = NDArray[np.uint8]

_I32 = ctypes.c_int32
REDUCE_SCATTER = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, _I32, ctypes.c_int, ctypes.POINTER(_I32), ctypes.POINTER(_I32), ctypes.c_int,
    ctypes.c_void_p, _I32, ctypes.c_void_p,
)  # fmt: skip
ALLGATHER = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, _I32, ctypes.POINTER(_I32), ctypes.POINTER(_I32), ctypes.c_int, ctypes.c_void_p,
    _I32,
)  # fmt: skip

_NO_FEATURE = (1 << 32) - 1
"""-1, in 4 bytes without a sign."""

_PROBED = {
    "min_data_in_leaf": 1,
    "max_depth": -1,
    "feature_fraction": 1.0,
    "min_data_in_bin": 1,
    "max_bin": 15,
}
_GRADIENTS = np.array([1, 2, 4, 8, 16, 32, 64], np.float32)


class Seat(NamedTuple):
    """A participant's place in its cohort: `rank` of `size`, in the order of the plan."""

    rank: int = 0
    size: int = 1

    @classmethod
    def at(cls, channel: Channel) -> "Seat":
        """The place of the channel's participant."""
        return cls(channel.cohort.index(channel.name), len(channel.cohort))


class Wire(NamedTuple):
    """How this build of LightGBM lays out what it gathers: bytes, and places of the root's totals.

    A split begins with its feature, has its bin at `bin_at`, and ends with a list of categories' bins from
    `list_at` on; how many it holds stands just before it.
    """

    root: int
    rows_at: int
    gradient_at: int
    hessian_at: int
    splits: int
    bin_at: int
    list_at: int


def call(function: str, *arguments: Any) -> None:
    """Call a function of LightGBM's C library that its Python package does not offer; raises its error."""
    library: Any = getattr(basic, "_LIB")  # noqa: B009
    basic._safe_call(getattr(library, function)(*arguments))


@compiled
def number(said: Bytes, at: int) -> int:
    """The number of 4 bytes at `at`, without a sign; LightGBM does not align it."""
    value = np.int64(0)
    for place in range(4):
        value |= np.int64(said[at + place]) << (8 * place)
    return int(value)


@compiled
def place(said: Bytes, list_at: int, slot: Bytes) -> None:
    """Copy to `slot` the two splits that are `said`, each but for what follows its list: that is left from
    the own histogram, which LightGBM had at the same place."""
    size = len(said) // 2
    for first in (0, size):
        end = min(list_at + 4 * number(said[first:], list_at - 4), size)
        slot[first : first + end] = said[first : first + end]


@compiled
def known(splits: Bytes, bin_at: int, list_at: int, bins: NDArray[np.int64]) -> bool:
    """Whether all `splits` (n, bytes) are of features and bins that there are; `bins` is how many of each."""
    size = splits.shape[1]
    for split in splits:
        feature, largest = number(split, 0), number(split, bin_at)
        for at in range(list_at, size, 4):
            largest = max(largest, number(split, at))
        found = feature < len(bins) and largest < bins[feature]
        if not (found or feature == _NO_FEATURE) or number(split, list_at - 4) > (size - list_at) // 4:
            return False
    return True


@contextmanager
def network(seat: Seat, callbacks: tuple[Any, Any]) -> Iterator[None]:
    """LightGBM's network of this thread; all that uses it must run in the same thread."""
    pointers = (ctypes.cast(callback, ctypes.c_void_p) for callback in callbacks)
    call("LGBM_NetworkInitWithFunctions", seat.size, seat.rank, *pointers)
    try:
        yield
    finally:
        call("LGBM_NetworkFree")


def probe(parameters: dict[str, Any]) -> Wire:
    """The layout of what LightGBM gathers, from one tree on seven known rows beside an empty neighbour.

    Raises `Refused` where the traffic is not root totals, a histogram, and splits.
    """
    gathered = _gathered({**parameters, **_PROBED})
    if len(gathered) != 2:
        raise Refused(f"LightGBM gathered {[len(piece) for piece in gathered]} bytes, expected two pieces")
    root, splits = gathered
    rows, gradient, hessian = (
        _place(root, value) for value in (np.int32(7), np.float64(_GRADIENTS.sum()), np.float64(7 * ROW))
    )
    list_at = len(splits) // 2 - 4 * parameters["max_cat_threshold"]
    return Wire(len(root), rows, gradient, hessian, len(splits), _bin_at(splits), list_at)


def _gathered(parameters: dict[str, Any]) -> list[bytes]:
    """The pieces that LightGBM gives to be gathered for that tree."""
    gathered: list[bytes] = []

    def allgather(source: int, size: int, _s: Any, _l: Any, _b: int, out: int, out_size: int) -> None:
        gathered.append(ctypes.string_at(source, size))
        ctypes.memset(out, 0, out_size)
        if len(gathered) == 1:
            ctypes.memmove(out, source, size)

    def reduce_scatter(
        source: int, _size: int, _w: int, start: Any, length: Any, _b: int, out: int, _o: int, _r: Any
    ) -> None:
        ctypes.memmove(out, source + start[0], length[0])

    data = lightgbm.Dataset(np.arange(7.0).reshape(-1, 1), np.zeros(7), params=parameters).construct()
    with network(Seat(0, 2), (REDUCE_SCATTER(reduce_scatter), ALLGATHER(allgather))):
        booster = lightgbm.Booster({**parameters, "tree_learner": "data", "num_machines": 2}, data)
        booster.update(fobj=lambda *_: (_GRADIENTS, np.full(7, ROW, np.float32)))
    return gathered


def _bin_at(splits: bytes) -> int:
    """Where the bin of a split stands, after feature, rows to the left and to the right, and gain."""
    feature, left, right, _, edge = struct.unpack_from("<iiidI", splits)
    if (feature, left + right, edge) != (0, 7, left - 1):
        raise Refused(f"LightGBM's splits begin with {feature, left, right, edge}, expected those of 7 rows")
    return 20


def _place(raw: bytes, value: np.generic) -> int:
    """Where in `raw` the bytes of `value` stand, aligned and once."""
    step = value.nbytes
    places = [at for at in range(0, len(raw) - step + 1, step) if raw[at : at + step] == value.tobytes()]
    if len(places) != 1:
        raise Refused(f"LightGBM's root totals have {value!r} at {places}, expected it once")
    return places[0]
