"""Embeddings of films from titles: read as written, and those of numpy's own decomposition."""

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from feature_store.content import read_content

PATH = Path(__file__).parents[1] / "examples" / "embed_titles.py"
MOVIES = """movieId,title,genres
1,"Alien, The (1979)",Horror|Sci-Fi
2,Aliens (1986),Action|Sci-Fi
3,No Year,Drama
"""
TWEETED = "0000003::Alien 3 (1992)::Horror|Sci-Fi\n0000001::Of the other set (1979)::Drama\n"


@pytest.fixture(scope="module")
def embed_titles():
    spec = importlib.util.spec_from_file_location("embed_titles", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_films_of_both_sets_are_known_by_their_imdb_id(embed_titles, tmp_path):
    for name, text in (
        ("movielens-small/movies.csv", MOVIES),
        ("movielens-small/links.csv", "movieId,imdbId,tmdbId\n1,0000001,7\n2,0000002,8\n3,0000009,\n"),
        ("movietweetings/movies.dat", TWEETED),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = embed_titles.films(tmp_path)
    assert found["0000001"] == ("Alien, The (1979)", "Horror|Sci-Fi")
    assert found.keys() == {"0000001", "0000002", "0000003", "0000009"}
    expected = {"title alien", "title the", "year 1979", "decade 197", "genre Horror", "genre Sci-Fi"}
    assert embed_titles.words(*found["0000001"]) == expected
    assert embed_titles.words(*found["0000009"]) == {"title no", "title year", "genre Drama"}


def test_embeddings_are_the_first_columns_of_a_dense_decomposition(embed_titles):
    r = np.random.default_rng(2)
    films = [{f"word {n}" for n in r.choice(25, 6, replace=False)} for _ in range(60)]
    count = Counter(word for each in films for word in each)
    words = sorted(word for word, n in count.items() if n >= embed_titles.COMMON)
    table = np.array([[np.log(60 / count[word]) * (word in each) for word in words] for each in films])
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    left, scale, _ = np.linalg.svd(table, full_matrices=False)
    expected = left[:, :5] * scale[:5]
    found = embed_titles.embeddings(films, 5).astype(np.float64)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)  # signs are anybody's


def test_the_file_is_one_that_a_consortium_reads(embed_titles, tmp_path, monkeypatch, capsys):
    found = {f"{n:07}": (f"Film {n % 7} of {n % 5} (19{n % 30 + 60})", f"Genre {n % 4}") for n in range(80)}
    monkeypatch.setattr(embed_titles, "films", lambda _: found)
    monkeypatch.setattr("sys.argv", ["embed_titles.py", "FOLDER", str(tmp_path / "i.parquet"), "--size", "8"])
    embed_titles.main()
    assert "80 films, 8 numbers each" in capsys.readouterr().out
    ids, content = read_content(tmp_path / "i.parquet", ["text"])
    assert ids.to_pylist() == [*found]
    alike = content.vectors @ content.vectors.T
    same = np.equal.outer(np.arange(80) % 4, np.arange(80) % 4)
    assert alike[same].mean() > alike[~same].mean()
