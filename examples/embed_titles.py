"""Embeddings of films from their titles, years and genres, without any download: TF-IDF, then an SVD.

.venv/bin/python examples/embed_titles.py FOLDER items.parquet
(FOLDER holds movielens-small/ and movietweetings/, as for examples/movielens.yaml)

Latent semantic analysis (Deerwester et al. 1990): a film is a row of words, each weighing log(films / films
with the word) (Salton and Buckley 1988), and its embedding the first columns of U S.
"""

import argparse
import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse
from scipy.sparse.linalg import svds

TITLE = re.compile(r"(.*?)\s*\((\d{4})\)?\s*$")
COMMON = 3
"""A word that fewer films have tells nothing of what they have in common."""


def films(folder: Path) -> dict[str, tuple[str, str]]:
    """Title and genres of each film, by IMDb id."""
    with (folder / "movietweetings/movies.dat").open(encoding="utf-8") as file:
        lines = (line.rstrip("\n").split("::") for line in file)
        found = {item: (title, genres) for item, title, genres in lines}
    with (folder / "movielens-small/links.csv").open(encoding="utf-8", newline="") as file:
        imdb = {row["movieId"]: row["imdbId"] for row in csv.DictReader(file)}
    with (folder / "movielens-small/movies.csv").open(encoding="utf-8", newline="") as file:
        found |= {imdb[row["movieId"]]: (row["title"], row["genres"]) for row in csv.DictReader(file)}
    return found


def words(title: str, genres: str) -> set[str]:
    """What is counted of a film: words of its title, its year, its decade and its genres."""
    name, year = match.groups() if (match := TITLE.match(title)) else (title, "")
    told = {f"title {word}" for word in re.findall(r"\w+", name.casefold())}
    told |= {f"year {year}", f"decade {year[:3]}"} if year else set()
    return told | {f"genre {genre}" for genre in genres.split("|") if genre}


def embeddings(each: list[set[str]], size: int) -> np.ndarray:
    """The films' embeddings, (films, size)."""
    count = Counter(word for told in each for word in told)
    known = {word: place for place, word in enumerate(sorted(w for w, n in count.items() if n >= COMMON))}
    pairs = [(row, known[word]) for row, told in enumerate(each) for word in sorted(told & known.keys())]
    rows, columns = np.array(pairs).T
    weights = np.log(len(each) / np.bincount(columns))[columns]
    table = sparse.csr_array((weights, (rows, columns)), shape=(len(each), len(known)))
    length = np.sqrt(np.maximum(table.power(2).sum(axis=1), 1e-12))
    left, scale, _ = svds(sparse.diags_array(1 / length) @ table, k=size, v0=np.ones(min(table.shape)))
    return (left * scale).astype(np.float32)


def main() -> None:
    """Write the file that `content` of a consortium names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=32, help="numbers of an embedding")
    told = parser.parse_args()
    found = films(told.folder)
    rows = embeddings([words(*film) for film in found.values()], told.size)
    columns = {"item": list(found), "text": pa.array(list(rows), pa.list_(pa.float32()))}
    pq.write_table(pa.table(columns), told.out)
    print(f"{told.out}: {len(found):,} films, {told.size} numbers each")


if __name__ == "__main__":
    main()
