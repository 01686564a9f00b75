"""EASE kept up to date: its inverse follows the users who changed, instead of being solved anew.

X'X changes by the rows of these users, after and before: a change of low rank, for which the inverse is
updated exactly (Woodbury 1950), in n^2 k operations for k changed rows of n items instead of n^3.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

ROWS = 512


def untouched(items: int, regularisation: float) -> NDArray[np.float64]:
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


def update(inverse: NDArray[np.float64], added: sparse.csr_array, removed: sparse.csr_array) -> None:
    """Make `inverse` = P that of P^-1 + added' added - removed' removed, in place, (n, n).

    What results must be positive definite, as any X'X + λI is.
    """
    rows = sparse.csr_array(sparse.vstack([added, removed], format="csr"))
    if rows.shape[0] == 0:
        return
    image = rows @ inverse
    core = np.array((rows @ image.T).T)
    core[np.diag_indices_from(core)] += np.repeat([1.0, -1.0], [added.shape[0], removed.shape[0]])
    solved = np.linalg.solve(core, image)
    for start in range(0, len(inverse), ROWS):
        block = slice(start, min(start + ROWS, len(inverse)))
        inverse[block, : block.stop] -= image[:, block].T @ solved[:, : block.stop]
        inverse[:start, block] = inverse[block, :start].T
