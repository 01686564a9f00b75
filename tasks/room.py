"""A participant's own folder: its store, the work it keeps for a run, its models. Nothing leaves by it.

`store/` holds the events, `work/<run>/` updates and choices until the run ends (or `keep_days` pass),
`models/<run>/` the participant's own recommender, `shown/` what its users were shown, where the consortium
explores. All of it is readable by its owner only.
"""

import hashlib
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feature_store import splits
from feature_store.as_of import times_of
from feature_store.catalogue import index, read_catalogue
from feature_store.content import NOTHING, Content, of_catalogue
from feature_store.features import events_of
from feature_store.importing import import_events
from feature_store.manifest import Manifest
from feature_store.partitions import Store
from federation.cadence import brings
from federation.durations import DAY
from federation.files import named
from recommenders.interactions import Interactions
from tasks.membership import Membership
from tasks.prepared import Prepared


class Room:
    """One participant's folder and what it was told of the consortium."""

    def __init__(self, home: Path, membership: Membership) -> None:
        self.home = home
        self.membership = membership
        self.store = Store(home / "store" / _settings(membership))
        self.prepared = lru_cache(maxsize=2)(self._prepared)

    @property
    def name(self) -> str:
        """The participant's name."""
        return self.membership.name

    def import_all(self) -> Manifest:
        """Import what is new in the participant's files; returns the state of its store.

        The events come last: when they changed is when its cadence begins.
        """
        if self.membership.test is not None:
            import_events(self.store, f"{self.name}.test", self.membership.test, self.membership.cleaning)
        import_events(self.store, self.name, self.membership.source, self.membership.cleaning)
        return self.store.manifest(self.name)

    def bring(self) -> str:
        """The version of its data, after an import where its cadence has passed since the last."""
        days = self.membership.cadence_days
        own = None if days is None else days * DAY
        if brings(own, self.store.changed_at(self.name), time.time()):
            self.import_all()
        return self.version

    @property
    def version(self) -> str:
        """The version of its events; where it has test files, a hash of both versions, and then the two."""
        events = self.store.manifest(self.name).version
        if self.membership.test is None:
            return events
        test = self.store.manifest(f"{self.name}.test").version
        return f"{hashlib.sha256((events + test).encode()).hexdigest()}-{events}-{test}"

    def manifest(self, version: str) -> Manifest:
        """What the store knows of the events, without the test files, at `version` of the data."""
        return self.store.manifest(self.name, _stored(version)[0])

    def item_ids(self, version: str | None = None) -> list[str]:
        """The item ids that the participant has at `version`, now if none, ascending."""
        items = self.events(version).column("item")
        return sorted(items.combine_chunks().dictionary_decode().unique().to_pylist())

    def unlisted(self, version: str | None = None, known_items: int | None = None) -> int:
        """How many of the events are left out, on items that are not among so many of the catalogue."""
        stored = None if version is None else _stored(version)[0]
        items = self.store.events(self.name, ["item"], version=stored).column("item")
        return int((index(read_catalogue(self.membership.catalogue)[:known_items], items) < 0).sum())

    def work(self, run: str, number: int) -> Path:
        """The folder of what is kept for a round of a run."""
        folder = self.home / "work" / named(run) / str(int(number))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def model(self, run: str) -> Path:
        """The folder of the participant's own model of a run."""
        return self.home / "models" / named(run)

    @property
    def shown(self) -> Path:
        """The folder of what was shown to its users, by day."""
        return self.home / "shown"

    def forget_round(self, run: str, number: int) -> None:
        """Drop the work of one round, so that it is done again."""
        shutil.rmtree(self.home / "work" / named(run) / str(int(number)), ignore_errors=True)

    def forget(self, run: str) -> None:
        """Drop the work of a run that is finished, older work, and what was shown too long ago to count."""
        shutil.rmtree(self.home / "work" / named(run), ignore_errors=True)
        self._drop(self._old("work"))
        self.forget_shown()

    def forget_shown(self) -> int:
        """Drop what was shown too long ago to count; returns how many days of it."""
        return self._drop(self._old("shown", self.membership.explore.keep_days))

    def tidy(self, keep: Collection[str]) -> int:
        """Drop models of runs that are not in `keep`, old work, and stores of settings that are not in use.

        Returns how many folders went. What is younger than `keep_days` stays.
        """
        models = [each for each in self._old("models") if each.name not in keep]
        stores = [each for each in self._old("store") if each != self.store.root]
        return self._drop([*models, *stores, *self._old("work")]) + self.forget_shown()

    def _old(self, kind: str, days: float | None = None) -> list[Path]:
        oldest = time.time() - (self.membership.keep_days if days is None else days) * DAY
        return [folder for folder in (self.home / kind).glob("*") if folder.stat().st_mtime < oldest]

    @staticmethod
    def _drop(folders: Sequence[Path]) -> int:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        return len(folders)

    def _prepared(self, version: str, cuts: tuple[str, ...], known_items: int | None = None) -> Prepared:
        """The events as a run sees them that knows so many items of the catalogue; all if none."""
        events = self.events(version)
        part = None
        if self.membership.test is not None:
            test = self.events(version, test=True)
            part = np.repeat([0, splits.TEST], [len(events), len(test)]).astype(np.int8)
            events = pa.concat_tables([events, test]).unify_dictionaries()
        catalogue = read_catalogue(self.membership.catalogue)[:known_items]
        items = index(catalogue, events.column("item").combine_chunks())
        users = events.column("user").combine_chunks()
        codes = users.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        known = items >= 0
        times = events.column("event_time").cast(pa.int64()).fill_null(0).to_numpy()
        data = Interactions(codes[known], items[known], times[known], len(users.dictionary), len(catalogue))
        moments = tuple(int(np.datetime64(cut, "us").astype(np.int64)) for cut in cuts)
        return Prepared(
            data=data,
            part=self._parts(data, part, known, moments),
            user_ids=users.dictionary,
            moments=moments,
            known_at=times_of(events).visible_from()[known],
            history=events_of(events, codes, items, len(catalogue)),
            content=self._content(catalogue),
            quality=self.manifest(version).report.quality,
        )

    def _content(self, catalogue: pa.Array) -> Content:
        path = self.membership.content
        return NOTHING if path is None else of_catalogue(path, self.membership.modalities, catalogue)

    def _parts(
        self,
        data: Interactions,
        given: NDArray[np.int8] | None,
        known: NDArray[np.bool_],
        moments: tuple[int, ...],
    ) -> NDArray[np.int8]:
        order = np.arange(len(data.users))
        if given is None:
            return splits.parts(data.users, data.times, order, self.membership.split, moments)
        part = given[known].copy()
        train = part == splits.TRAIN
        part[train] = splits.parts(
            data.users[train], data.times[train], order[train], self.membership.split, moments
        )
        return part

    def as_told(self, told: Mapping[str, Any]) -> Prepared:
        """The events as a job is told of them: by their version, the cuts, how many items count."""
        return self.prepared(told["version"], tuple(told["cuts"]), told.get("items"))

    def events(self, version: str | None = None, test: bool = False) -> pa.Table:
        """The participant's events at `version`, now if none, in time's order; or of its `test` files."""
        columns = ["user", "item", "event_time", "known_time", "value", "sequence"]
        stored = None if version is None else _stored(version)[-1 if test else 0]
        return self.store.events(f"{self.name}.test" if test else self.name, columns, version=stored)


def _stored(version: str) -> list[str]:
    """The versions in the store that make a version of a participant's data: of the events, of the test."""
    return version.split("-")[1:] or [version]


def _settings(membership: Membership) -> str:
    """A short hash of how files are read and cleaned: other settings, another store."""
    decides = membership.model_dump_json(include={"source", "test", "cleaning"})
    sources = filter(None, (membership.source, membership.test))
    decides += "".join(each.aliases.digest for each in sources if each.aliases)
    return hashlib.sha256(decides.encode()).hexdigest()[:12]
