"""The first k items, against sorting everything."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recommenders.metrics import Queries
from recommenders.topk import top_items, top_popular


def slow(scores, catalogue, seen, k):
    """Sort by falling score, then by index; leave out what was seen."""
    order = sorted(range(len(catalogue)), key=lambda place: (-scores[place], catalogue[place]))
    kept = [int(catalogue[place]) for place in order if catalogue[place] not in seen][:k]
    return kept + [-1] * (k - len(kept))


@given(
    arrays.arrays(np.float32, (5, 9), elements=st.sampled_from([-1.5, -0.0, 0.0, 0.5, 2.0])),
    st.lists(st.sets(st.integers(0, 19)), min_size=5, max_size=5),
    st.integers(1, 12),
)
def test_equals_sorting_with_ties_and_seen_items(scores, seen, k):
    catalogue = np.arange(0, 18, 2, dtype=np.int32)
    starts = np.cumsum([0] + [len(each) for each in seen])
    items = np.array([item for each in seen for item in sorted(each)], np.int32)
    queries = Queries(
        np.arange(5, dtype=np.int32), starts, items, np.zeros(6, np.int64), np.zeros(0, np.int32)
    )
    found = top_items(lambda rows: scores[rows], queries, catalogue, 20, k)
    assert found.tolist() == [slow(scores[row], catalogue, seen[row], k) for row in range(5)]
    found = top_popular(scores[0], queries, catalogue, 20, k)
    assert found.tolist() == [slow(scores[0], catalogue, seen[row], k) for row in range(5)]


def test_many_blocks_are_as_one():
    rng = np.random.default_rng(0)
    scores = rng.random((1300, 40)).astype(np.float32)
    nothing = np.zeros(1301, np.int64)
    queries = Queries(
        np.arange(1300, dtype=np.int32), nothing, np.zeros(0, np.int32), nothing, np.zeros(0, np.int32)
    )
    found = top_items(lambda rows: scores[rows], queries, np.arange(40, dtype=np.int32), 40, 3)
    assert np.array_equal(found, np.argsort(-scores, axis=1)[:, :3])


def test_what_is_popular_is_the_same_in_many_blocks():
    rng = np.random.default_rng(1)
    scores, seen = rng.integers(0, 9, 40).astype(np.float32), rng.integers(0, 5, 1300)
    starts, items = np.append(0, np.cumsum(seen)), rng.integers(0, 50, seen.sum()).astype(np.int32)
    nothing = np.zeros(1301, np.int64)
    queries = Queries(np.arange(1300, dtype=np.int32), starts, items, nothing, np.zeros(0, np.int32))
    catalogue = np.arange(5, 45, dtype=np.int32)
    every = np.broadcast_to(scores, (1300, 40))
    assert np.array_equal(
        top_popular(scores, queries, catalogue, 50, 38),
        top_items(every.__getitem__, queries, catalogue, 50, 38),
    )
