"""What a participant makes of the opened sums: its own lists, alone and in the consortium, and their figures.

Round 0 chooses everything on the participant's own validation part; round 1 is asked about the test part,
with what was chosen.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feature_store.catalogue import index, read_catalogue
from federation.channel import Channel
from federation.files import write_json
from recommenders.boosting import State
from recommenders.choice import Choice, choose
from recommenders.interpolation import Interpolated
from recommenders.metrics import bootstrap_sums, item_counts, metric_sums, per_query
from recommenders.sequence import Reader
from recommenders.trees import any_split
from tasks import exploring, own_model, ranking, sequences
from tasks.comparison import Terms, champion_lists, compare, secret
from tasks.prepared import Prepared
from tasks.room import Room
from tasks.sequences import Learned
from tasks.tables import ALONE, TOGETHER, read_table
from tasks.terms import kept, snapshot

Sums = tuple[NDArray[np.float64], NDArray[np.int64]]
Chosen = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Scored:
    """Metric sums and recommendation counts of each arm, what was chosen, and the champion's comparison.

    `draws` (draws, arms + 1) are bootstrap sums of NDCG of the arms in order, the champion's left out.
    """

    arms: dict[str, Sums]
    draws: NDArray[np.float64]
    chosen: dict[str, Any]
    terms: Terms


def score(
    room: Room,
    prepared: Prepared,
    run: str,
    number: int,
    channel: Channel,
    learned: State | Learned | None,
    champion: str | None = None,
) -> Scored:
    """The arms `popularity`, `alone`, `consortium` (in the test `reachable`) on the own queries of the round.

    `learned` is what the consortium has grown, or when its transformer was best, where there is one;
    `champion` the run of the present champion, an arm too, where the participant holds its model.
    """
    part = prepared.scored_in(number)
    ranking.let_go()
    # Before the round's own matrices are there: it solves, too.
    held = None if champion is None else champion_lists(room, champion, prepared, part)
    this = _Round(room, prepared, run, number, channel)
    chosen = this.choices()
    arms = {arm: this.lists(Choice(**choice)) for arm, choice in chosen.items()}
    choice = Choice(**this.choices().get("consortium", this.choices()["popularity"]))
    own: Interpolated | Reader | None = None
    if isinstance(learned, State):
        own = ranking.personal(room, run, number, part, learned)
        arms["consortium"], chosen["consortium"] = this.ranked(own)
        arms["alone"], chosen["alone"] = this.ranked_alone(arms["popularity"])
    elif learned is not None:
        read = sequences.arms(room, prepared, run, number, learned, channel)
        own, choice = read.reader, read.chosen["consortium"]
        arms |= read.lists
        chosen |= {arm: each.as_dict() for arm, each in read.chosen.items()}
        chosen["consortium"] |= {**learned.model_dump(), "own_share": own.share}
    if number == 1 and room.membership.reachable is not None:  # it is known as of the test
        arms["reachable"] = this.reachable(room.membership.reachable)
    terms = compare(room, prepared, part, arms["consortium"], held)
    if held is not None:
        arms["champion"] = held
    told = {f"{arm}_{key}": value for arm, each in chosen.items() for key, value in each.items()}
    values = np.column_stack([this.ndcg(lists) for arm, lists in sorted(arms.items()) if arm != "champion"])
    draws = bootstrap_sums(values, secret(room, prepared, values))
    scored = Scored({arm: this.sums(lists) for arm, lists in arms.items()}, draws, told, terms)
    if number == 1:
        del this  # its matrices are let go first
        everything = snapshot(room, prepared, part, channel, prepared.served())
        own_model.keep(room, run, everything, choice, own, prepared.content)
        exploring.keep_opened(room, run, channel)
    return scored


class _Round:
    """What one scoring of a round needs: the queries, and what is known when their part begins."""

    def __init__(self, room: Room, prepared: Prepared, run: str, number: int, channel: Channel) -> None:
        self.room, self.prepared, self.run, self.number = room, prepared, run, number
        self.model, self.part = room.membership.model, prepared.scored_in(number)
        self.known = snapshot(room, prepared, self.part, channel, prepared.sold(self.part))
        self.queries = prepared.queries(self.part)
        self.tried: dict[Choice, NDArray[np.float64]] = {}

    def choices(self) -> Chosen:
        """Share, strength and kind of each arm: chosen in round 0, kept afterwards."""
        path = self.room.work(self.run, 0) / "chosen.json"
        if self.number == 0 and not path.is_file():
            write_json(path, self._chosen())
        found: Chosen = json.loads(kept(self.room, self.run, 0, "chosen.json")[0].read_text())
        return found

    def lists(self, choice: Choice) -> NDArray[np.int32]:
        """The lists of all queries under `choice`, shape (queries, top)."""
        return self.known.lists(choice, self.queries, self.model.top)

    def ranked(self, own: Interpolated) -> tuple[NDArray[np.int32], dict[str, Any]]:
        """The lists of the participant's ranker `own`, and what it is made of."""
        table = read_table(self.room, self.run, self.number, TOGETHER, self.part)
        chosen = {"trees": len(own.common.trees), "own_share": own.share}
        return ranking.ranked(table, own, self.model.top), chosen

    def ranked_alone(self, popular: NDArray[np.int32]) -> tuple[NDArray[np.int32], dict[str, Any]]:
        """The same by a ranker of own rows only; `popular` where they are too few to learn an order from."""
        ranker = ranking.grow_alone(self.room, self.run, self.number, self.part)
        if ranker is None or not any_split(ranker.trees):
            return popular, {"trees": 0}
        table = read_table(self.room, self.run, self.number, ALONE, self.part)
        return ranking.ranked(table, ranker, self.model.top), {"trees": len(ranker.trees)}

    def sums(self, top: NDArray[np.int32]) -> Sums:
        """The additive form of the lists' metrics."""
        return metric_sums(top, self.queries), item_counts(top, self.known.data.item_count)

    def ndcg(self, top: NDArray[np.int32]) -> NDArray[np.float64]:
        """The lists' NDCG, (queries,)."""
        return per_query(top, self.queries)[:, 0]

    def reachable(self, path: Path) -> NDArray[np.int32]:
        """The true best lists, which only a generator of events knows."""
        truth = pq.read_table(path)
        catalogue = read_catalogue(self.room.membership.catalogue)[: self.known.data.item_count]
        rows = {user: row for row, user in enumerate(truth.column("user").to_pylist())}
        users = self.prepared.user_ids.take(self.queries.users).to_pylist()
        top = np.full((len(users), self.model.top), -1, np.int32)
        lists = truth.column("items").combine_chunks()
        for query, user in enumerate(users):
            if user in rows:
                found = index(catalogue, lists[rows[user]].values)
                top[query, : min(len(found), top.shape[1])] = found[: top.shape[1]]
        return top

    def _chosen(self) -> Chosen:
        windows, model = range(len(self.model.windows)), self.model
        found = {"popularity": choose(self._ndcg, "popularity", (0.0,), windows)}
        if model.kind == "popularity":
            shared = choose(self._ndcg, "popularity", model.shares, windows)
            found |= {"alone": found["popularity"], "consortium": shared}
        if model.kind == "item_to_item":
            alone = choose(self._ndcg, "item_to_item", (0.0,), model.regularisations)
            shared = choose(self._ndcg, "item_to_item", model.shares, model.regularisations)
            found |= {"alone": alone, "consortium": shared}
        return {arm: choice.as_dict() for arm, choice in found.items()}

    def _ndcg(self, choice: Choice) -> NDArray[np.float64]:
        if choice not in self.tried:
            self.tried[choice] = self.ndcg(self.lists(choice))
        return self.tried[choice]
