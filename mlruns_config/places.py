"""Where MLflow's own SQLite store looks for its files: it keeps whole paths, and a state folder may move."""

import sqlite3
from contextlib import closing
from pathlib import Path

_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


def settle(database: Path, artifacts: Path) -> None:
    """Have the store in `database` look below `artifacts` for what it kept where its folder lay before.

    That is a place that ends with the same three names; an operator's experiment elsewhere stays there.
    """
    now = artifacts.as_uri()
    own = "/".join(["", *now.split("/")[-3:]])
    with closing(sqlite3.connect(database)) as store, store:
        known = {place or "" for (place,) in store.execute("SELECT artifact_location FROM experiments")}
        for before in {each for each in known if each.startswith("file://") and each.endswith(own)} - {now}:
            for table, column in _PLACES:
                store.execute(
                    f"UPDATE {table} SET {column} = ?1 || substr({column}, length(?2) + 1) "
                    f"WHERE substr({column} || '/', 1, length(?2) + 1) = ?2 || '/'",
                    (now, before),
                )
