"""A participant's rows for the ranker, on its own disk: made once for each part, together and alone."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel
from federation.errors import BadInput
from federation.files import replacing
from recommenders import item_to_item, query_rows, two_stage
from recommenders.boosting import Rows
from recommenders.candidates import candidates
from recommenders.metrics import Queries, relevant_to
from recommenders.snapshot import Floats, Snapshot
from tasks.model import ModelConfig
from tasks.prepared import Prepared
from tasks.room import Room
from tasks.terms import snapshot

TOGETHER, ALONE = "together", "alone"


@dataclass(frozen=True)
class Table:
    """The n candidates of a part's queries: `sizes` (queries,), features (n, f), items and labels (n,).

    `quality` is the share of the participant's events that passed cleaning.
    """

    sizes: NDArray[np.int64]
    features: Floats
    items: NDArray[np.int32]
    labels: NDArray[np.bool_]
    relevant_starts: NDArray[np.int64]
    relevant_items: NDArray[np.int32]
    quality: float = 1.0

    @property
    def queries(self) -> Queries:
        """What was asked, without what had been seen."""
        empty = np.zeros(0, np.int32)
        asked = len(self.sizes)
        return Queries(
            np.arange(asked, dtype=np.int32), np.zeros(asked + 1, np.int64), empty,
            self.relevant_starts, self.relevant_items,
        )  # fmt: skip

    def top(self, scores: NDArray[np.float64], k: int) -> NDArray[np.int32]:
        """The lists of the queries, (queries, k), by one score a candidate."""
        return query_rows.ordered(self.items, self.sizes, scores, k)


def keep_tables(room: Room, prepared: Prepared, run: str, number: int, channel: Channel) -> None:
    """Write what is not there yet of the tables of the parts up to the one that the round scores.

    Raises `BadInput` where what may be listed takes more memory than `model.memory_gb`.
    """
    model = room.membership.model
    item_to_item.require_memory(len(prepared.served()), model.memory_gb, model.held)
    for part in range(1, prepared.scored_in(number) + 1):
        if not _path(room, run, number, ALONE, part).is_file():
            known = snapshot(room, prepared, part, channel, prepared.listable(part))
            content = prepared.content.of(model.content)
            found = two_stage.retriever(known, model.two_stage, model.windows, content)
            _write(_path(room, run, number, TOGETHER, part), table(found, known, prepared, part, model))
            found = two_stage.alone(known, found)
            _write(_path(room, run, number, ALONE, part), table(found, known, prepared, part, model))


def table(
    found: two_stage.Retriever, known: Snapshot, prepared: Prepared, part: int, model: ModelConfig
) -> Table:
    """The candidates of the part's queries, by what was known when it began."""
    queries = prepared.queries(part)
    had = two_stage.lately(found, known.data, queries.users, model.two_stage)
    sources, many = two_stage.sources(found, known.history(queries.users), had), model.two_stage.candidates
    listed = candidates(sources, queries, known.own_items, known.data.item_count, many)
    store = prepared.known(two_stage.STORE, queries.users[listed.queries], listed.items, known.moment)
    return Table(
        listed.sizes, two_stage.features(found, listed, store, had), listed.items,
        relevant_to(queries, listed.queries, listed.items), queries.relevant_starts, queries.relevant_items,
        prepared.quality,
    )  # fmt: skip


def training(room: Room, run: str, number: int, arm: str, parts: range) -> Rows:
    """The rows of the queries of `parts` that teach something; none where nobody came back for one."""
    tables = (read_table(room, run, number, arm, part) for part in parts)  # one at a time
    return teaching(tables, room.membership.model)


def teaching(tables: Iterable[Table], model: ModelConfig) -> Rows:
    """The rows of `tables` that teach something; lambdarank weighs them itself."""
    by_quality = model.two_stage.weighting == "quality"
    parts = (
        query_rows.Labelled(
            each.features, each.labels, each.sizes, np.diff(each.relevant_starts),
            each.quality if by_quality else 1.0,
        )
        for each in tables
    )  # fmt: skip
    rows = query_rows.training_rows(parts, model.top)
    return rows._replace(weights=None) if model.two_stage.boosting.objective == "lambdarank" else rows


def teaches(room: Room, run: str, number: int, part: int) -> bool:
    """Whether there are rows before `part` that the ranker can learn from."""
    return len(training(room, run, number, TOGETHER, range(1, part)).labels) > 0


def read_table(room: Room, run: str, number: int, arm: str, part: int) -> Table:
    """A kept table; raises `BadInput` where it is gone, or of another version."""
    path = _path(room, run, number, arm, part)
    if not path.is_file():
        raise BadInput(f"{room.name}: the rows of part {part} of run {run} are gone; start a new run")
    with np.load(path, allow_pickle=False) as arrays:
        found = Table(**{field.name: arrays[field.name] for field in fields(Table)})
    if found.features.shape[1] != len(room.membership.model.features):
        raise BadInput(
            f"{room.name}: the rows of part {part} of run {run} are of another version of chorus, with "
            f"{found.features.shape[1]} features; start a new run"
        )
    return found


def _path(room: Room, run: str, number: int, arm: str, part: int) -> Path:
    """In the folder of the round that was the first to need it, so that redoing a round redoes its own."""
    earlier = room.work(run, 0) / f"{arm}-{part}.npz"
    return earlier if number == 0 or earlier.is_file() else room.work(run, number) / earlier.name


def _write(path: Path, made: Table) -> None:
    with replacing(path) as file:
        np.savez(file, **{field.name: getattr(made, field.name) for field in fields(Table)})
