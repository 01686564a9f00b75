"""Causal self-attention in numpy: what a trained transformer makes of histories.

Training is torch's (`recommenders/transformer.py`); who only asks for lists needs but this file, which is
packed with the registered model.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLOCK = 256
"""Histories that are read at once."""


class Size(NamedTuple):
    """Numbers that describe an item, events that are read, blocks of self-attention, and heads of each."""

    width: int
    length: int
    blocks: int
    heads: int


class Network(NamedTuple):
    """All that is learned: `dense`, what `shapes` names in one vector, and `table`, (items, width)."""

    dense: Floats
    table: Floats

    def of(self, items: NDArray[np.int32]) -> "Network":
        """The same with the rows of `items` alone; 0 of those that the table does not know yet."""
        known, rows = items < len(self.table), np.zeros((len(items), self.table.shape[1]), np.float32)
        rows[known] = self.table[items[known]]
        return Network(self.dense, rows)

    def plus(self, change: "Network") -> "Network":
        """The sum of both, parameter by parameter."""
        return Network(self.dense + change.dense, self.table + change.table)

    def digest(self) -> str:
        """SHA-256 of all parameters."""
        told = hashlib.sha256(self.dense.tobytes())
        told.update(self.table.tobytes())
        return told.hexdigest()

    def trusted(self, trust: float) -> "Network":
        """The same whose scores are `trust` times as large: its last norm is, which ends `dense`."""
        dense, width = self.dense.copy(), self.table.shape[1]
        dense[-2 * width :] *= np.float32(trust)
        return Network(dense, self.table)

    def among(self, items: NDArray[np.int32], count: int) -> "Network":
        """The same with its rows as those of `items` among `count` items; 0 elsewhere."""
        table = np.zeros((count, self.table.shape[1]), np.float32)
        table[items] = self.table
        return Network(self.dense, table)


def shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """The parameters beside the table, by their names in a `torch.nn.TransformerEncoder`, in order."""
    width, block = size.width, dict[str, tuple[int, ...]]()
    for name, inside, out in (
        ("self_attn.in_proj_", width, 3 * width),
        ("self_attn.out_proj.", width, width),
        ("linear1.", width, 4 * width),
        ("linear2.", 4 * width, width),
    ):
        block |= {f"{name}weight": (out, inside), f"{name}bias": (out,)}
    block |= {f"norm{place}.{name}": (width,) for place in (1, 2) for name in ("weight", "bias")}
    found: dict[str, tuple[int, ...]] = {"places": (size.length, width)}
    for place in range(size.blocks):
        found |= {f"layers.{place}.{name}": shape for name, shape in block.items()}
    return {**found, "norm.weight": (width,), "norm.bias": (width,)}


def named(dense: Floats, size: Size) -> dict[str, Floats]:
    """The parameters of a `dense` vector by name, each in its shape; views of it.

    Raises `ValueError` where they are not as many as `size` takes.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes(size).items()}
    pieces = np.split(dense, np.cumsum([*sizes.values()]))
    if len(pieces.pop()) or len(dense) < sum(sizes.values()):
        raise ValueError(f"expected {sum(sizes.values())} parameters beside the table, found {len(dense)}")
    return {
        name: piece.reshape(shape) for (name, shape), piece in zip(shapes(size).items(), pieces, strict=True)
    }


def scores(network: Network, size: Size, histories: NDArray[np.int64]) -> Floats:
    """How much likelier each item of the table is after each of `histories` (n, steps), as a logarithm.

    (n, items); 0 after no events.  What has a row of zeros is unknown to the network: it is not read, and its
    score is 0.
    """
    parameters, histories = named(network.dense, size), _known(network.table, histories)
    found = [_read(network.table, parameters, size, each) @ network.table.T for each in _blocks(histories)]
    return np.concatenate(found) if found else np.zeros((0, len(network.table)), np.float32)


def _known(table: Floats, histories: NDArray[np.int64]) -> NDArray[np.int64]:
    """The events of items that the table knows, oldest first, then -1."""
    known = np.append(table.any(axis=1), False)[histories]
    order = np.argsort(~known, axis=1, kind="stable")
    known, histories = (np.take_along_axis(each, order, axis=1) for each in (known, histories))
    return np.where(known, histories, -1)


def _blocks(histories: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(histories), BLOCK):
        yield histories[start : start + BLOCK]


def _read(table: Floats, parameters: dict[str, Floats], size: Size, histories: NDArray[np.int64]) -> Floats:
    """What the network makes of histories when it has read their last events, (n, width); 0 of empty ones."""
    steps = histories.shape[1]
    state = table[histories] * np.float32(math.sqrt(size.width)) + parameters["places"][:steps]
    for place in range(size.blocks):
        prefix = f"layers.{place}."
        block = {name[len(prefix) :]: each for name, each in parameters.items() if name.startswith(prefix)}
        state = state + _attend(_normed(state, block, "norm1."), block, size.heads)
        inner = np.maximum(_linear(_normed(state, block, "norm2."), block, "linear1."), 0)
        state = state + _linear(inner, block, "linear2.")
    sizes = (histories >= 0).sum(axis=1)
    last = _normed(state[np.arange(len(state)), sizes - 1], parameters, "norm.")
    found: Floats = np.where(sizes[:, None] > 0, last, np.float32(0))
    return found


def _attend(state: Floats, block: dict[str, Floats], heads: int) -> Floats:
    """Causal self-attention (Vaswani et al. 2017, eq. 1) over (n, steps, width)."""
    count, steps, width = state.shape
    mixed = state @ block["self_attn.in_proj_weight"].T + block["self_attn.in_proj_bias"]
    query, key, value = mixed.reshape(count, steps, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
    likeness = query @ key.swapaxes(2, 3) / np.float32(math.sqrt(width // heads))
    likeness[..., ~np.tri(steps, dtype=np.bool_)] = -np.inf
    weights = np.exp(likeness - likeness.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    heard = (weights @ value).swapaxes(1, 2).reshape(count, steps, width)
    return _linear(heard, block, "self_attn.out_proj.")


def _linear(state: Floats, block: dict[str, Floats], name: str) -> Floats:
    found: Floats = state @ block[f"{name}weight"].T + block[f"{name}bias"]
    return found


def _normed(state: Floats, block: dict[str, Floats], name: str) -> Floats:
    """Layer normalisation (Ba et al. 2016)."""
    centred = state - state.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    found: Floats = centred / spread * block[f"{name}weight"] + block[f"{name}bias"]
    return found
