"""EASE kept up to date: its inverse follows the users who changed, instead of being solved anew.

X'X changes by the rows of these users, after and before: a change of low rank, for which the inverse is
updated exactly (Woodbury 1950), in 2 n^2 k operations for k changed rows of n items instead of n^3.
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


def changed_rows(before: sparse.csr_array, after: sparse.csr_array) -> tuple[sparse.csr_array, int]:
    """The rows that differ, as they are after and then as they were, empty ones left out.

    Both have a row for each user and as many columns. Also returns how many rows are of the first kind.
    """
    differ = np.unique((after - before).nonzero()[0])
    now, then = (rows[differ] for rows in (after, before))
    now, then = (rows[np.diff(rows.indptr) > 0] for rows in (now, then))
    return sparse.csr_array(sparse.vstack([now, then], format="csr")), now.shape[0]


def update(inverse: NDArray[np.float64], rows: sparse.csr_array, added: int) -> None:
    """Make `inverse` = P that of P^-1 plus the first `added` of `rows`' outer products, less the others'.

    In place, (n, n); rows (k, n). What results must be positive definite, as any X'X + λI is.
    """
    if rows.shape[0] == 0:
        return
    image = rows @ inverse
    core = image @ rows.T.toarray()
    signs = np.where(np.arange(rows.shape[0]) < added, 1.0, -1.0)
    core[np.diag_indices_from(core)] += signs
    solved = np.linalg.solve(core, image)
    for start in range(0, len(inverse), ROWS):
        inverse[start : start + ROWS] -= image[:, start : start + ROWS].T @ solved
