import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from recommenders.incremental import Inverse, changed_rows, untouched, update
from recommenders.item_to_item import solve, weights


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 30), st.floats(0.5, 100))
def test_the_inverse_follows_the_users_as_solving_anew_does(seed, users, items, regularisation):
    """Users gain items, and lose some, five times; the weights are those of X'X at the end.

    An update loses digits with the square of the condition number, here up to about 2000.
    """
    rng = np.random.default_rng(seed)
    inverse, before = untouched(items, regularisation), sparse.csr_array((users, items))
    for _ in range(5):
        after = sparse.csr_array((rng.random((users, items)) < rng.random()).astype(float))
        update(inverse, *changed_rows(before, after))
        before = after
    gram = (before.T @ before).toarray()
    assert inverse == pytest.approx(np.linalg.inv(gram + regularisation * np.eye(items)), rel=1e-7, abs=1e-7)
    assert weights(inverse) == pytest.approx(solve(gram, regularisation), rel=1e-5, abs=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 20), st.floats(1, 100))
def test_terms_beside_the_inverse_are_as_solving_anew(seed, users, items, regularisation):
    """Users gain items, and items are new, four times; only rows of the inverse are asked for."""
    rng = np.random.default_rng(seed)
    before = sparse.csr_array((rng.random((users, items)) < 0.3).astype(float))
    gram = (before.T @ before).toarray() + regularisation * np.eye(items)
    found = Inverse.of(np.linalg.inv(gram), regularisation)
    for _ in range(4):
        columns = before.shape[1] + int(rng.integers(0, 3))
        more = rng.random((users, columns)) < 0.2
        before.resize(more.shape)
        after = sparse.csr_array((before.toarray() > 0) | more).astype(float)
        found, before = found.after(*changed_rows(before, after)), after
    gram = (before.T @ before).toarray()
    exact = np.linalg.inv(gram + regularisation * np.eye(len(gram)))
    everything = sparse.csr_array(np.eye(len(gram)))
    assert found.times(everything) == pytest.approx(exact, rel=1e-4, abs=1e-6)
    assert found.diagonal == pytest.approx(np.diag(exact), rel=1e-5)
    off = ~np.eye(len(gram), dtype=bool)
    assert found.scores(everything)[off] == pytest.approx(
        solve(gram, regularisation)[off], rel=1e-4, abs=1e-5
    )


def test_only_rows_that_differ_and_hold_something_count():
    before = sparse.csr_array(np.array([[1, 0], [0, 0], [1, 1], [0, 1]]))
    after = sparse.csr_array(np.array([[1, 0], [0, 1], [0, 1], [0, 0]]))
    added, removed = changed_rows(before, after)
    assert added.toarray().tolist() == [[0, 1], [0, 1]]
    assert removed.toarray().tolist() == [[1, 1], [0, 1]]


def test_nothing_changed_changes_nothing():
    inverse, same = untouched(3, 2.0), sparse.csr_array(np.eye(3))
    update(inverse, *changed_rows(same, same))
    assert np.array_equal(inverse, np.eye(3) / 2)
