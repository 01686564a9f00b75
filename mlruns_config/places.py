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
    """Have the store in `database` look below `artifacts` for what it kept where its folder lay before."""
    now = artifacts.as_uri()
    with closing(sqlite3.connect(database)) as store, store:
        known = {place for (place,) in store.execute("SELECT artifact_location FROM experiments")}
        for before in {place for place in known if _own(place)} - {now}:
            for table, column in _PLACES:
                store.execute(
                    f"UPDATE {table} SET {column} = ?1 || substr({column}, length(?2) + 1) "
                    f"WHERE substr({column} || '/', 1, length(?2) + 1) = ?2 || '/'",
                    (now, before),
                )


def _own(place: str | None) -> bool:
    """Whether it is a place that Chorus gave; MLflow's own experiment and an operator's have others."""
    return (place or "").startswith("file://") and (place or "").endswith("/mlflow/artifacts")
