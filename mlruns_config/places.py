"""Where MLflow's own SQLite store looks for its files: it keeps whole paths, and a state folder may move."""

import sqlite3
from contextlib import closing

from mlruns_config.tracking import NoTracking, Tracking

_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


def settle(tracking: Tracking) -> None:
    """Have its own store look for its files where its folder lies now; for who is alone on the state folder.

    What moves with it is a place that ends with the same three names; an operator's experiment elsewhere
    stays there.  Raises `NoTracking` where the store cannot be written.
    """
    if tracking.config.uri is None and tracking.database.exists():
        try:
            _move(tracking, (tracking.folder / "artifacts").as_uri())
        except sqlite3.Error as error:
            raise NoTracking(f"{tracking.database}: cannot be written: {error}") from None


def _move(tracking: Tracking, now: str) -> None:
    own = "/".join(["", *now.split("/")[-3:]])
    with closing(sqlite3.connect(tracking.database)) as store, store:
        known = {place or "" for (place,) in store.execute("SELECT artifact_location FROM experiments")}
        for before in {each for each in known if each.startswith("file://") and each.endswith(own)} - {now}:
            for table, column in _PLACES:
                store.execute(
                    f"UPDATE {table} SET {column} = ?1 || substr({column}, length(?2) + 1) "
                    f"WHERE substr({column} || '/', 1, length(?2) + 1) = ?2 || '/'",
                    (now, before),
                )
