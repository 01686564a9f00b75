"""A file of embeddings as it is read, and likeness by content against loops that are plainly right."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.content import NEVER, NOTHING, of_catalogue, read_content
from feature_store.errors import BadData
from recommenders.content import likeness, nearest, newest
from recommenders.interactions import Interactions

DAY = 86_400_000_000
FLOATS = pa.list_(pa.float32())


def written(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "items.parquet"


def test_embeddings_come_in_the_order_of_the_catalogue_each_of_length_one(path):
    text = pa.array([[3.0, 4.0], None, [0.0, 0.0], [0.0, -2.0]], pa.list_(pa.float64()))
    image = pa.array([[1], [2], None, None], pa.list_(pa.int8()))
    written(path, item=["a", "b", "c", "other"], text=text, image=image)
    found = of_catalogue(path, ["text", "image"], pa.array(["c", "new", "b", "a"]))
    expected = [[0, 0, 0], [0, 0, 0], [0, 0, 1], [0.6, 0.8, 1]]
    np.testing.assert_array_equal(found.vectors, np.array(expected, np.float32))
    assert found.starts.tolist() == [0, 2, 3]
    assert found.since.tolist() == [NEVER] * 4
    assert found.listed_at(NEVER).tolist() == []


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float16()), pa.list_(pa.float64(), 3)]
)
def test_lists_of_any_kind_are_the_same(path, kind):
    cells = pa.array(
        [np.array(row, kind.value_type.to_pandas_dtype()) for row in ([1, 2, 2], [0, 0, 1])], kind
    )
    ids, found = read_content(written(path, item=[7, 8], embedding=cells), ["embedding"])
    assert ids.to_pylist() == ["7", "8"]
    expected = np.array([[1 / 3, 2 / 3, 2 / 3], [0, 0, 1]], np.float32)
    np.testing.assert_array_equal(found.vectors, expected)


@pytest.mark.parametrize("kind", [pa.timestamp("s", "Europe/Berlin"), pa.timestamp("ns"), pa.date32()])
def test_who_may_be_listed_since_when(path, kind):
    moment = datetime(1970, 1, 3, tzinfo=UTC) if pa.types.is_timestamp(kind) else date(1970, 1, 3)
    since = pa.array([moment, None], kind)
    _, found = read_content(
        written(path, item=["a", "b"], embedding=[[1.0], [2.0]], since=since), ["embedding"]
    )
    assert found.since.tolist() == [2 * DAY, NEVER]
    assert [found.listed_at(at).tolist() for at in (2 * DAY, 2 * DAY + 1)] == [[], [0]]


WRONG = {
    "column 'embedding', found item, image": {"item": ["a"], "image": [[1.0]]},
    "column 'item', found id, embedding": {"id": ["a"], "embedding": [[1.0]]},
    "row 2: found 'a' again, expected it once: it is at 1": {"item": ["a", "a"], "embedding": [[1.0]] * 2},
    "row 2: found an empty id": {"item": ["a", None], "embedding": [[1.0]] * 2},
    "column 'embedding': found string, expected lists of numbers": {"item": ["a"], "embedding": ["1 2"]},
    "column 'embedding': found list<element: string>, expected": {"item": ["a"], "embedding": [["1"]]},
    "column 'embedding': found no embedding": {"item": ["a"], "embedding": pa.array([None], FLOATS)},
    "row 1: found 0 numbers, expected one at least": {
        "item": ["a"],
        "embedding": pa.array([[]], FLOATS),
    },
    "row 3: found 1 numbers, expected 2, as in row 2": {
        "item": ["a", "b", "c"],
        "embedding": [None, [1.0, 2.0], [1.0]],
    },
    "row 2: found nan, expected finite numbers": {
        "item": ["a", "b"],
        "embedding": [[1.0, 2.0], [1.0, np.nan]],
    },
    "row 1: found inf, expected finite numbers": {"item": ["a"], "embedding": [[1e300]]},
    "row 1: found nan, expected": {"item": ["a"], "embedding": pa.array([[1.0, None]])},
    "column 'since', row 1: found 'soon', expected a moment": {
        "item": ["a"],
        "embedding": [[1.0]],
        "since": ["soon"],
    },
}


@pytest.mark.parametrize("told", WRONG)
def test_a_file_that_is_wrong_says_where(path, told):
    with pytest.raises(BadData) as error:
        read_content(written(path, **WRONG[told]), ["embedding"])
    assert str(error.value).startswith(f"{path}")
    assert told in str(error.value)


def test_a_file_that_is_none_or_of_other_items_says_so(path):
    with pytest.raises(BadData, match="expected a readable Parquet file"):
        read_content(path, ["embedding"])
    path.write_text("item,embedding")
    with pytest.raises(BadData, match="expected a readable Parquet file"):
        read_content(path, ["embedding"])
    written(path, item=["a"], embedding=[[1.0]])
    with pytest.raises(BadData, match="found none of the catalogue's 2 ids"):
        of_catalogue(path, ["embedding"], pa.array(["b", "c"]))


def some(seed, users=6, items=12, events=60, width=3):
    """Events of some users, embeddings of some items, and which items are the own."""
    r = np.random.default_rng(seed)
    pairs = r.integers(0, users, events).astype(np.int32), r.integers(0, items, events).astype(np.int32)
    data = Interactions(*pairs, np.arange(events), users, items)
    own = np.sort(r.choice(items, r.integers(1, items), replace=False)).astype(np.int32)
    vectors = r.normal(size=(len(own), width)).astype(np.float32)
    vectors[r.random(len(own)) < 0.3] = 0
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = np.sort(r.choice(users, 4, replace=False)).astype(np.int32)
    return data, own, vectors / np.where(length > 0, length, 1), asked


def last_of(data, user, own, many):
    """Places of the last different own items of `user`, newest first, by a loop."""
    found = []
    for event in range(len(data.users) - 1, -1, -1):
        place = np.flatnonzero(own == data.items[event])
        if data.users[event] == user and len(place) and place[0] not in found:
            found.append(int(place[0]))
    return found[:many]


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_the_newest_items_are_those_of_a_loop(seed, many):
    data, own, _, asked = some(seed)
    found = newest(data, asked, own, many)
    assert found.shape == (4, many)
    for user, row in zip(asked, found, strict=True):
        expected = last_of(data, user, own, many)
        assert row.tolist() == expected + [-1] * (many - len(expected))


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_likeness_is_that_of_every_pair(seed):
    data, own, vectors, asked = some(seed)
    lately = newest(data, asked, own, 4)
    every = np.divmod(np.arange(len(asked) * len(own)), len(own))
    found = likeness(vectors, lately, *every).reshape(len(asked), len(own), 2)
    scores = nearest(vectors, lately)(slice(1, 3))
    for query, row in enumerate(lately):
        had = [vectors[place].astype(np.float64) for place in row if place >= 0 and vectors[place].any()]
        for place, vector in enumerate(vectors):
            cosines = [float(vector @ each) for each in had] if vector.any() else []
            expected = (np.mean(cosines), max(cosines)) if cosines else (np.nan, np.nan)
            np.testing.assert_allclose(found[query, place], expected, atol=1e-6)
            if query in (1, 2):
                expected = np.mean(cosines) if cosines else 0
                np.testing.assert_allclose(scores[query - 1, place], expected, atol=1e-6)


def test_the_bits_of_a_pair_do_not_depend_on_what_else_is_asked():
    r = np.random.default_rng(1)
    vectors, lately = r.normal(size=(400, 33)).astype(np.float32), np.array([[3, 9, -1]], np.int32)
    query, place = np.zeros(400, np.int64), np.arange(400)
    whole = likeness(vectors, lately, query, place)
    for start in (0, 1, 7, 399):
        part = likeness(vectors, lately, query[start:], place[start:])
        np.testing.assert_array_equal(part, whole[start:])
    np.testing.assert_array_equal(
        nearest(vectors, np.repeat(lately, 3, axis=0))(slice(2, 3)), nearest(vectors, lately)(slice(0, 1))
    )


def test_modalities_are_had_by_their_names(path):
    written(path, item=["a", "b"], text=[[3.0, 4.0], [1.0, 0.0]], image=[[2.0], [-1.0]])
    _, found = read_content(path, ["image", "text"])
    for names, expected, starts in (
        (["text"], [[0.6, 0.8], [1, 0]], [0, 2]),
        (["text", "image"], [[0.6, 0.8, 1], [1, 0, -1]], [0, 2, 3]),
        ([], np.zeros((2, 0)), [0]),
    ):
        vectors, begin = found.of(names)
        np.testing.assert_array_equal(vectors, np.array(expected, np.float32))
        assert begin.tolist() == starts


def test_nothing_is_no_content():
    vectors, starts = NOTHING.of([])
    assert (vectors.shape, starts.tolist()) == ((0, 0), [0])
    assert NOTHING.listed_at(NEVER).tolist() == []
