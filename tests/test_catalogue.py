import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.catalogue import index, read_catalogue, union, write_catalogue
from feature_store.errors import BadData

IDS = ["b", "a", "ü x", "10"]


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new" / "catalogue.txt"
    write_catalogue(path, IDS)
    assert path.read_bytes() == "b\na\nü x\n10\n".encode()
    assert read_catalogue(path).to_pylist() == IDS
    assert [each.name for each in path.parent.iterdir()] == ["catalogue.txt"]


def test_text_of_other_systems_is_read(tmp_path):
    path = tmp_path / "catalogue.txt"
    path.write_bytes("\ufeffa\r\nb\u2028c\r\nd".encode())
    assert read_catalogue(path).to_pylist() == ["a", "b\u2028c", "d"]


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([3, 1]),
        pa.array(["3", "1"]).dictionary_encode(),
        pa.array([3, 1]).cast(pa.decimal128(38, 10)),
        pa.array(["3", "1"], pa.large_string()),
    ],
)
def test_the_first_column_of_parquet_is_read(tmp_path, ids):
    pq.write_table(pa.table({"id": ids, "name": ["x", "x"]}), tmp_path / "items.parquet")
    found = read_catalogue(tmp_path / "items.parquet")
    assert found.type == pa.string()
    assert found.to_pylist() == ["3", "1"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\n\nb\n", "line 2: found an empty id"),
        ("a\nb\na\n", "line 3: found 'a' again.*at 1"),
        ("", "found no item ids"),
        ("a\rb\n", r"line 1: found a line break in an id"),
    ],
)
def test_wrong_text_is_refused(tmp_path, text, told):
    path = tmp_path / "catalogue.txt"
    path.write_text(text)
    with pytest.raises(BadData, match=f"{path}.*{told}"):
        read_catalogue(path)


def test_wrong_parquet_is_refused(tmp_path):
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"id": ["a", None]}), path)
    with pytest.raises(BadData, match="row 2: found an empty id"):
        read_catalogue(path)
    pq.write_table(pa.table({"id": ["a\nb"]}), path)
    with pytest.raises(BadData, match="row 1: found a line break in an id"):
        read_catalogue(path)
    pq.write_table(pa.table({}), path)
    with pytest.raises(BadData, match="found no item ids"):
        read_catalogue(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(BadData, match="expected a readable list"):
        read_catalogue(path)
    with pytest.raises(BadData, match="expected a readable list"):
        read_catalogue(tmp_path / "none.txt")


@pytest.mark.parametrize("ids", [["a", "a"], [""], ["a\nb"], ["a\r"]])
def test_wrong_ids_are_not_written(tmp_path, ids):
    with pytest.raises(BadData):
        write_catalogue(tmp_path / "catalogue.txt", ids)
    assert not [*tmp_path.iterdir()]


def test_the_union_is_sorted():
    assert union([["b", "a"], ["c", "a"], []]) == ["a", "b", "c"]
    assert union(iter([])) == []


@given(items=st.lists(st.sampled_from([*IDS, "unknown", None])), cut=st.integers(0, 5))
def test_index_equals_a_dictionary(items, cut):
    expected = [IDS.index(item) if item in IDS else -1 for item in items]
    catalogue, plain = pa.array(IDS), pa.array(items, pa.string())
    for given_items in (plain, plain.dictionary_encode(), pa.chunked_array([plain[:cut], plain[cut:]])):
        found = index(catalogue, given_items)
        assert found.dtype == "int32"
        assert found.tolist() == expected
