"""EASE kept up to date: its inverse follows the users who changed, instead of being solved anew.

X'X changes by the rows of these users, after and before: a change of low rank, for which the inverse is
updated exactly (Woodbury 1950), in n^2 k operations for k changed rows of n items instead of n^3.  Where only
some rows of the inverse are asked for, the change stays beside it, as a term of low rank.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

ROWS = 512
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Inverse:
    """P = (X'X + λI)^-1 of m items: `base` (n, n) of the first n, and what followed as terms V'W of low rank.

    `diagonal` (m,) is P's; of items after the first n nobody had any at the time of `base`.
    """

    base: NDArray[np.float32]
    regularisation: float
    diagonal: Floats
    terms: tuple[tuple[Floats, Floats], ...] = ()

    @classmethod
    def of(cls, inverse: Floats, regularisation: float) -> "Inverse":
        """A copy of the whole matrix `inverse`."""
        return cls(inverse.astype(np.float32), regularisation, np.diag(inverse).copy())

    def times(self, rows: sparse.csr_array) -> Floats:
        """`rows` P, (k, m), for sparse `rows` (k, m)."""
        known = len(self.base)
        found = np.empty(rows.shape)
        found[:, :known] = rows[:, :known].astype(np.float32) @ self.base
        found[:, known:] = rows[:, known:].toarray() / self.regularisation
        for image, solved in self.terms:
            width = image.shape[1]
            found[:, :width] -= (rows[:, :width] @ image.T) @ solved
        return found

    def scores(self, history: sparse.csr_array) -> NDArray[np.float32]:
        """What EASE says of items that are not in a row of `history` (users, m) itself."""
        return np.asarray(self.times(history) / -self.diagonal, np.float32)

    def after(self, added: sparse.csr_array, removed: sparse.csr_array) -> "Inverse":
        """What it is once rows (k, m) are `added` and `removed`; new columns are items nobody had."""
        new = np.full(added.shape[1] - len(self.diagonal), 1 / self.regularisation)
        grown = replace(self, diagonal=np.append(self.diagonal, new))
        rows = sparse.csr_array(sparse.vstack([added, removed], format="csr"))
        if rows.shape[0] == 0:
            return grown
        image = grown.times(rows)
        solved = np.asarray(np.linalg.solve(_core(rows, image, added.shape[0]), image), np.float64)
        diagonal = grown.diagonal - np.einsum("kn,kn->n", image, solved)
        return replace(grown, diagonal=diagonal, terms=(*self.terms, (image, solved)))


def untouched(items: int, regularisation: float) -> Floats:
    """(X'X + λI)^-1 before anyone has had anything, shape (items, items)."""
    inverse = np.zeros((items, items))
    np.fill_diagonal(inverse, 1 / regularisation)
    return inverse


def changed_rows(before: sparse.csr_array, after: sparse.csr_array) -> tuple[sparse.csr_array, ...]:
    """The rows that differ: as they are after, then as they were before, each without the empty ones.

    Both matrices have a row for each user and as many columns.
    """
    differ = np.unique((after - before).nonzero()[0])
    picked = (after[differ], before[differ])
    return tuple(rows[np.diff(rows.indptr) > 0] for rows in picked)


def update(inverse: Floats, added: sparse.csr_array, removed: sparse.csr_array) -> None:
    """Make `inverse` = P that of P^-1 + added' added - removed' removed, in place, (n, n).

    What results must be positive definite, as any X'X + λI is.
    """
    rows = sparse.csr_array(sparse.vstack([added, removed], format="csr"))
    if rows.shape[0] == 0:
        return
    image = rows @ inverse
    solved = np.linalg.solve(_core(rows, image, added.shape[0]), image)
    for start in range(0, len(inverse), ROWS):
        block = slice(start, min(start + ROWS, len(inverse)))
        inverse[block, : block.stop] -= image[:, block].T @ solved[:, : block.stop]
        inverse[:start, block] = inverse[block, :start].T


def _core(rows: sparse.csr_array, image: Floats, added: int) -> Floats:
    """rows P rows' + D, with 1 for each of the rows that are `added` on the diagonal of D, else -1."""
    core = np.array((rows @ image.T).T)
    core[np.diag_indices_from(core)] += np.repeat([1.0, -1.0], [added, rows.shape[0] - added])
    return core
