"""A participant's side of a round: its own terms of the sums, and what it makes of the opened totals.

Round 0 learns from the training part and chooses everything on the participant's own validation part;
round 1 learns from both with what was chosen, and is asked about the test part.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feature_store.catalogue import index, read_catalogue
from feature_store.splits import TEST, VALIDATION
from federation.channel import Channel
from federation.errors import BadInput
from recommenders import item_to_item
from recommenders.choice import Choice, choose
from recommenders.metrics import COUNTS, item_counts, metric_sums, per_query
from recommenders.popularity import blend, windowed_counts
from recommenders.topk import top_items
from tasks.room import Prepared, Room
from tasks.runs import write_json

PARTS = (VALIDATION, TEST)
Sums = tuple[NDArray[np.float64], NDArray[np.int64]]


@dataclass(frozen=True)
class Scored:
    """Metric sums and recommendation counts of each arm, and what was chosen."""

    arms: dict[str, Sums]
    chosen: dict[str, float]


def keep_terms(room: Room, prepared: Prepared, run: str, number: int) -> None:
    """Write the own terms of the round's sums: windows of popularity and blocks of X'X."""
    data, folder = prepared.before(PARTS[number]), room.work(run, number)
    moment = until(prepared, PARTS[number])
    windows = [windowed_counts(data, moment, days) for days in room.membership.model.windows]
    _save(folder / "popularity.npy", np.concatenate(windows))
    if room.membership.model.kind == "item_to_item":
        item_to_item.require_memory(len(_own_items(prepared)), room.membership.model.memory_gb)
        for number_of_block, block in enumerate(item_to_item.gram_blocks(data)):
            _save(folder / f"gram-{number_of_block}.npy", block.astype(_form(room).dtype))


def add_terms(room: Room, run: str, number: int, channel: Channel) -> None:
    """Add the kept terms to the sums `popularity` and `gram/<i>`."""
    folder = _kept(room, run, number, "popularity.npy").parent
    channel.sum("popularity", np.load(folder / "popularity.npy"), COUNTS)
    blocks = (np.load(path) for path in _in_order(folder))
    for _ in item_to_item.sum_gram(channel, blocks, _form(room)):
        pass


def score(room: Room, prepared: Prepared, run: str, number: int, channel: Channel) -> Scored:
    """The arms `popularity`, `alone`, `consortium` (and `reachable`) on the own queries of the round."""
    this = _Round(room, prepared, run, number, channel)
    chosen = this.choices()
    write_json(room.work(run, number) / "chosen.json", chosen)
    arms = {arm: this.sums(this.scores(Choice(**choice))) for arm, choice in chosen.items()}
    if room.membership.reachable is not None:
        arms["reachable"] = this.reachable(room.membership.reachable)
    if number == len(PARTS) - 1:
        this.keep_model(Choice(**chosen["consortium"]))
    return Scored(
        arms, {f"{arm}_{key}": value for arm, each in chosen.items() for key, value in each.items()}
    )


class _Round:
    """What one scoring of a round needs: the queries, the own and the total counts and X'X."""

    def __init__(self, room: Room, prepared: Prepared, run: str, number: int, channel: Channel) -> None:
        self.room, self.prepared, self.run, self.number = room, prepared, run, number
        self.model = room.membership.model
        self.tried: dict[Choice, NDArray[np.float64]] = {}
        self.own_items = _own_items(prepared)
        self.data = prepared.before(PARTS[number])
        self.queries = prepared.queries(PARTS[number])
        self.history = self.data.matrix()[self.queries.users][:, self.own_items].astype(np.float32)
        shape = (len(self.model.windows), self.data.item_count)
        self.own_counts = np.load(room.work(run, number) / "popularity.npy").reshape(shape)
        self.total_counts = channel.read(f"{number}/popularity").reshape(shape)
        if self.model.kind == "item_to_item":
            self.own_gram = item_to_item.own_gram(self.data, self.own_items)
            self.total_gram = self._total_gram(channel)

    def choices(self) -> dict[str, dict[str, float]]:
        """Share, strength and kind of each arm: chosen in round 0, kept afterwards."""
        if self.number > 0:
            kept = _kept(self.room, self.run, 0, "chosen.json")
            found: dict[str, dict[str, float]] = json.loads(kept.read_text())
            return found
        windows = range(len(self.model.windows))
        popular = choose(self._ndcg, "popularity", (0.0,), windows)
        if self.model.kind == "popularity":
            shared = choose(self._ndcg, "popularity", self.model.shares, windows)
            found_choices = {"popularity": popular, "alone": popular, "consortium": shared}
        else:
            alone = choose(self._ndcg, "item_to_item", (0.0,), self.model.regularisations)
            shared = choose(self._ndcg, "item_to_item", self.model.shares, self.model.regularisations)
            found_choices = {"popularity": popular, "alone": alone, "consortium": shared}
        return {arm: choice.as_dict() for arm, choice in found_choices.items()}

    def scores(self, choice: Choice) -> NDArray[np.int32]:
        """The lists of all queries under `choice`, shape (queries, top)."""
        if choice.kind == "popularity":
            popular = self._popular(choice)
            return self._top(lambda rows: np.broadcast_to(popular, (rows.stop - rows.start, len(popular))))
        weights = self._weights(choice)
        return self._top(lambda rows: self.history[rows] @ weights)

    def sums(self, top: NDArray[np.int32]) -> Sums:
        """The additive form of the lists' metrics."""
        return metric_sums(top, self.queries), item_counts(top, self.data.item_count)

    def reachable(self, path: Path) -> Sums:
        """The metrics of the true best lists, which only a generator of events knows."""
        truth = pq.read_table(path)
        catalogue = read_catalogue(self.room.membership.catalogue)
        rows = {user: row for row, user in enumerate(truth.column("user").to_pylist())}
        users = self.prepared.user_ids.take(self.queries.users).to_pylist()
        top = np.full((len(users), self.model.top), -1, np.int32)
        lists = truth.column("items").combine_chunks()
        for query, user in enumerate(users):
            if user in rows:
                found = index(catalogue, lists[rows[user]].values)
                top[query, : min(len(found), top.shape[1])] = found[: top.shape[1]]
        return self.sums(top)

    def keep_model(self, choice: Choice) -> None:
        """The participant's own recommender, in its own folder."""
        folder = self.room.model(self.run)
        folder.mkdir(parents=True, exist_ok=True)
        weights = None if choice.kind == "popularity" else self._weights(choice)
        _save(folder / "items.npy", self.own_items)
        _save(folder / "popularity.npy", self._popular(Choice("popularity", 0.0, 0)))
        if weights is not None:
            _save(folder / "weights.npy", weights)
        write_json(folder / "model.json", {"run": self.run, **choice.as_dict()})

    def _ndcg(self, choice: Choice) -> NDArray[np.float64]:
        if choice not in self.tried:
            self.tried[choice] = per_query(self.scores(choice), self.queries)[:, 0]
        return self.tried[choice]

    def _top(self, score: Any) -> NDArray[np.int32]:
        return top_items(score, self.queries, self.own_items, self.data.item_count, self.model.top)

    def _popular(self, choice: Choice) -> NDArray[np.float32]:
        window = int(choice.strength)
        return blend(self.own_counts[window], self.total_counts[window], choice.share)[self.own_items]

    def _weights(self, choice: Choice) -> NDArray[np.float32]:
        others = self.total_gram - self.own_gram
        return item_to_item.solve(self.own_gram + choice.share * others, choice.strength)

    def _total_gram(self, channel: Channel) -> NDArray[np.float64]:
        count = self.data.item_count
        blocks = range(len(item_to_item.row_blocks(count)))
        opened: Iterator[NDArray[Any]] = (channel.read(f"{self.number}/gram/{block}") for block in blocks)
        return item_to_item.assemble(opened, count, self.own_items, self.model.hide_below)


def recommend(room: Room, run: str, user: str, top: int) -> dict[str, Any]:
    """The first `top` items for `user`, best first, with scores; raises `BadInput` for an unknown one."""
    folder = room.model(run)
    if not (folder / "model.json").is_file():
        raise BadInput(f"{room.name}: has no model of run {run}; expected one of a finished run")
    catalogue = read_catalogue(room.membership.catalogue)
    events = room.store.events(room.name, ["user", "item"])
    mine = events.filter(pc.equal(pc.cast(events.column("user"), "string"), user))
    if len(mine) == 0:
        raise BadInput(f"{room.name}: user {user!r} is not known; expected one with events")
    own_items = np.load(folder / "items.npy")
    seen = np.isin(own_items, index(catalogue, mine.column("item").combine_chunks()))
    scores = np.load(folder / "popularity.npy").astype(np.float32)
    if (folder / "weights.npy").is_file():
        scores = np.load(folder / "weights.npy", mmap_mode="r")[seen].sum(axis=0)
    scores = np.where(seen, -np.inf, scores)
    best = np.argsort(-scores, kind="stable")[: min(top, int((~seen).sum()))]
    return {"items": catalogue.take(own_items[best]).to_pylist(), "scores": scores[best].tolist()}


def _own_items(prepared: Prepared) -> NDArray[np.int32]:
    """What the participant sells: every item of its files."""
    return prepared.data.own_items()


def until(prepared: Prepared, part: int) -> int:
    """The moment up to which popularity counts: when the part begins, in microseconds.

    Where each user's last items are withheld there is no such moment: the end of what is known.
    """
    data, inside = prepared.data, prepared.part == part
    before = data.times[prepared.part < part]
    begins = int(data.times[inside].min(initial=np.iinfo(np.int64).max))
    return max(begins, 0) if begins > before.max(initial=0) else int(before.max(initial=0)) + 1


def _kept(room: Room, run: str, number: int, name: str) -> Path:
    path = room.work(run, number) / name
    if not path.is_file():
        raise BadInput(
            f"{room.name}: what it kept for round {number} of run {run} is gone, expected {name}; "
            "start a new run"
        )
    return path


def _form(room: Room) -> Any:
    return item_to_item.gram_form(room.membership.model.users_bound, room.membership.participants)


def _in_order(folder: Path) -> list[Path]:
    return sorted(folder.glob("gram-*.npy"), key=lambda path: int(path.stem.removeprefix("gram-")))


def _save(path: Path, array: NDArray[Any]) -> None:
    beside = path.with_name(path.name + ".tmp.npy")
    np.save(beside, array)
    beside.replace(path)
