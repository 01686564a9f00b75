"""Item-to-item by EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data").

It needs X'X only, a sum over users: one round of sums makes the model that pooled rows make.  X'X
travels as dense blocks of rows of its upper triangle, so which cells are empty is not shown.  Each
participant solves its own: its X'X plus a share of the others' sum, on the items that it sells.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from federation.channel import Channel
from federation.errors import BadInput
from federation.fixed_point import FixedPoint
from recommenders.interactions import Interactions

BLOCK_CELLS = 1 << 22
ROWS = 128
"""Rows of a matrix that are mixed or unfolded at a time: few, so that hardly more is held than the matrix."""


def gram_form(users_bound: int, participants: int) -> FixedPoint:
    """The narrowest words that cannot overflow when each participant's cells count at most `users_bound`."""
    for width in (16, 32):
        if users_bound * participants < 1 << width:
            return FixedPoint(width=width, fraction_bits=0, terms=participants, signed=False)
    return FixedPoint(width=64, fraction_bits=0, terms=participants, signed=False)


def row_blocks(items: int) -> list[slice]:
    """Rows of the upper triangle, cut so that a block has about 4 million cells."""
    blocks, start = [], 0
    while start < items:
        stop = min(items, start + max(1, BLOCK_CELLS // (items - start)))
        blocks.append(slice(start, stop))
        start = stop
    return blocks


def gram_blocks(data: Interactions) -> Iterator[NDArray[np.int64]]:
    """X'X of one participant's users, block by block: for each row i the cells (i, j) with j >= i."""
    columns = data.matrix().tocsc()
    for rows in row_blocks(data.item_count):
        block = (columns[:, rows].T @ columns[:, rows.start :]).toarray()
        yield np.asarray(block[_upper(*block.shape)], np.int64)


def sum_gram(
    channel: Channel, blocks: Iterator[NDArray[Any]], form: FixedPoint, label: str = "gram"
) -> Iterator[NDArray[Any]]:
    """The consortium's blocks, each one named sum `<label>/<i>` of the participants' blocks."""
    for index, block in enumerate(blocks):
        yield channel.sum(f"{label}/{index}", block, form)


def assemble(
    blocks: Iterator[NDArray[Any]], items: int, keep: NDArray[np.int32], hide_below: int = 0
) -> NDArray[Any]:
    """The full X'X over the items `keep` (ascending), from the blocks of the whole catalogue's triangle.

    Off-diagonal cells that count fewer than `hide_below` users are taken as empty.  Its cells are of the
    blocks' own type: counts need fewer bytes than what is solved.
    """
    gram: NDArray[Any] | None = None
    for rows, block in zip(row_blocks(items), blocks, strict=True):
        wide = np.zeros((rows.stop - rows.start, items - rows.start), block.dtype)
        wide[_upper(*wide.shape)] = block
        first, last = np.searchsorted(keep, (rows.start, rows.stop))
        picked = wide[keep[first:last] - rows.start][:, keep[first:] - rows.start]
        picked[(picked < hide_below) & (np.arange(last - first)[:, None] != np.arange(picked.shape[1]))] = 0
        gram = np.zeros((len(keep), len(keep)), block.dtype) if gram is None else gram
        gram[first:, first:last] = picked.T
        gram[first:last, last:] = picked[:, last - first :]
        square = picked[:, : last - first]
        gram[first:last, first:last] = square + np.triu(square, 1).T
    return np.zeros((len(keep), len(keep))) if gram is None else gram


def own_gram(data: Interactions, keep: NDArray[np.int32]) -> NDArray[np.int32]:
    """X'X of one participant's users over the items `keep`, shape (len(keep), len(keep))."""
    columns = data.matrix().tocsc()[:, keep]
    return np.asarray((columns.T @ columns).astype(np.int32).toarray())


def shared_gram(own: NDArray[Any], total: NDArray[Any], share: float) -> NDArray[np.float64]:
    """The own X'X plus `share` of the others': share 1 is the total as it is."""
    mixed: NDArray[np.float64] = np.multiply(total, share, dtype=np.float64)
    for start in range(0, len(mixed), ROWS):  # no third matrix of float64
        mixed[start : start + ROWS] += (1.0 - share) * own[start : start + ROWS]
    return mixed


def solve(gram: NDArray[np.float64], regularisation: float) -> NDArray[np.float32]:
    """EASE's weights B, zero on the diagonal, shape of `gram`: B = I - P / diag(P), P = (gram + λI)^-1.

    `gram` is used up where it is of float64: LAPACK factors and inverts it in place.
    """
    return weights(invert(gram, regularisation, in_place=True))


def invert(gram: NDArray[Any], regularisation: float, in_place: bool = False) -> NDArray[np.float64]:
    """The lower triangle of P = (gram + λI)^-1; what is above it has no meaning."""
    # Symmetric, so its transpose is itself in LAPACK's order.
    system = np.array(gram.T, np.float64, order="F", copy=None if in_place else True)
    if not len(system):  # nothing was sold yet; LAPACK would print that this is illegal
        return system
    system[np.diag_indices_from(system)] += regularisation
    factor, broken = lapack.dpotrf(system, lower=1, overwrite_a=1)
    if broken:
        raise BadInput(f"X'X + {regularisation} I is not positive definite; choose a larger regularisation")
    inverse: NDArray[np.float64] = lapack.dpotri(factor, lower=1, overwrite_c=1)[0]
    return inverse


def weights(inverse: NDArray[np.float64]) -> NDArray[np.float32]:
    """EASE's weights B = I - P / diag(P) from the lower triangle of P, shape of `inverse`."""
    scale = -1.0 / np.diag(inverse)
    found = np.empty(inverse.shape, np.float32)
    for start in range(0, len(inverse), ROWS):
        lower = np.tril(inverse[start : start + ROWS, : start + ROWS], start).astype(np.float32)
        found[start : start + ROWS, : start + ROWS] = lower
        found[: start + ROWS, start : start + ROWS] = lower.T
        block = np.tril(lower[:, start:])
        found[start : start + ROWS, start : start + ROWS] = block + np.tril(block, -1).T
    found *= scale.astype(np.float32)
    np.fill_diagonal(found, 0)
    return found


def memory_needed(items: int, held: int = 0) -> int:
    """Bytes that one solve takes at its peak: own and total X'X, what is solved in place, the weights.

    `held` matrices of weights are there already.  The process itself, about a quarter of a GiB, is not in it.
    """
    return items * items * (4 + 4 + 8 + 4 * (1 + held))


def require_memory(items: int, limit_gb: float, held: int = 0) -> None:
    """Raise `BadInput`, naming the alternatives, where one solve would take more than `limit_gb`."""
    needed = memory_needed(items, held) / 2**30
    if needed > limit_gb:
        raise BadInput(
            f"item-to-item over {items} items needs {needed:.1f} GiB to solve, model.memory_gb is "
            f"{limit_gb:g}; use a smaller catalogue (drop rare items), or model.kind: popularity"
        )


def _upper(rows: int, columns: int) -> NDArray[np.bool_]:
    return np.arange(columns)[None, :] >= np.arange(rows)[:, None]
