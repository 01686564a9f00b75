"""A participant's part in training the transformer, and the one that it trains alone, for comparison.

A federated round is some passes over the own histories from the common network, and a sum, whose mean is the
next.  What the rounds before have learned is read from their opened sums, and known by its digest.
"""

import json
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federation.channel import Channel
from federation.errors import BadInput, Refused
from federation.files import save, write_json
from federation.frozen import Frozen
from recommenders import sequence
from recommenders.attention import Network
from recommenders.choice import Choice, choose
from recommenders.interpolation import choose_share
from recommenders.metrics import COUNTS, SUMS, metric_sums, metrics, per_query
from recommenders.sequence import Reader
from tasks.model import ModelConfig
from tasks.prepared import Prepared
from tasks.room import Room
from tasks.terms import kept, snapshot

Lists = NDArray[np.int32]


def learn(
    room: Room, prepared: Prepared, run: str, number: int, step: int, begins: str, channel: Channel
) -> dict[str, Any]:
    """The federated round `step` on everybody's events; in round 0 also the figures of validation.

    What it returns follows from sums, and is the same at every participant.  Raises `Refused` where it reads
    another network than that whose digest all were told, `begins`: if all others had one without gradients,
    it would be heard alone (Pasquini et al. 2022, "Eluding Secure Aggregation in Federated Learning").
    """
    asked = Asked(room, prepared, run, number, channel)
    before, config = asked.common(step), asked.config
    if before.digest() != begins:
        raise Refused(f"{room.name}: read another network than all were told of")
    asked.go_on_alone(step)
    trained = asked.train(before.of(asked.items), step).among(asked.items, len(before.table))
    totals = channel.sum(f"sequence/{step}/events", asked.counts, COUNTS)
    term = sequence.contribution(trained, asked.counts, totals)
    total = channel.sum(f"sequence/{step}/network", term, sequence.FORM)
    if number:
        return {}
    learned, told = sequence.mean(total, totals, before).of(asked.items), list[dict[str, Any]]()
    for place, trust in enumerate(config.trusts):
        sums = metric_sums(asked.lists(by(learned.trusted(trust)), "consortium"), asked.queries)
        opened = channel.sum(f"learned/{step}/{place}", sums, SUMS)
        told.append({"trust": trust, "overall": metrics(opened, asked.model.top)})
    return max(told, key=lambda each: each["overall"].get(asked.model.metric, 0.0))


class Learned(Frozen):
    """After how many federated rounds the network was best, and how far its scores are trusted."""

    rounds: Annotated[int, Field(ge=0)]
    trust: Annotated[float, Field(ge=0, le=1)]


class Read(NamedTuple):
    """By arm its lists, and what of popularity they come on top of; the reader, of all items."""

    lists: dict[str, Lists]
    chosen: dict[str, Choice]
    reader: Reader


def arms(room: Room, prepared: Prepared, run: str, number: int, learned: Learned, channel: Channel) -> Read:
    """The round's queries asked of everybody's network with the own one beside it, and of the own one alone.

    What is not `learned` together is chosen in round 0, and kept.
    """
    asked, path = Asked(room, prepared, run, number, channel), room.work(run, 0) / "own-share.json"
    common, own = asked.common(learned.rounds).trusted(learned.trust), asked.own(learned.rounds)
    readers = {
        "alone": by(own),
        "consortium": Reader(common.of(asked.items), own, asked.config.own_shares[0]),
    }
    if number == 0 and not path.is_file():
        write_json(path, asked.own_share(readers["consortium"]))
    share = json.loads(kept(room, run, 0, path.name)[0].read_text())
    readers["consortium"] = readers["consortium"]._replace(share=share)
    everything = own.among(asked.items, len(common.table))
    lists = {arm: asked.lists(reader, arm) for arm, reader in readers.items()}
    return Read(lists, asked.popularity, Reader(common, everything, share))


def by(network: Network) -> Reader:
    """A reader by one network."""
    return Reader(network, network, 0.0)


def require_torch(name: str, model: ModelConfig) -> None:
    """Raise `BadInput` where the participant is to train a transformer, and has no torch to do it."""
    if model.kind == "sequence" and find_spec("torch") is None:
        raise BadInput(
            f"{name}: model.kind: found sequence, which trains with torch, found none; expected the "
            "build for this machine beside chorus (docs/operations.md, A transformer)"
        )


class Asked:
    """What a participant knows when the part that a round scores begins, and what it is asked there."""

    def __init__(self, room: Room, prepared: Prepared, run: str, number: int, channel: Channel) -> None:
        self._room, self._run, self._number, self._channel = room, run, number, channel
        self.model, part = room.membership.model, prepared.scored_in(number)
        self.config, self.queries = self.model.sequence, prepared.queries(part)
        self.known = snapshot(room, prepared, part, channel, prepared.sold(part))
        self.data, self.items = self.known.data, self.known.own_items
        self.counts = np.bincount(self.data.items, minlength=self.data.item_count)

    def common(self, rounds: int) -> Network:
        """Everybody's network after so many federated rounds, of the whole catalogue."""
        first = sequence.initial(self.data.item_count, self.config, self._room.membership.seed)
        if rounds == 0:
            return first
        last = f"{self._number}/sequence/{rounds - 1}"
        return sequence.mean(
            self._channel.read(f"{last}/network"), self._channel.read(f"{last}/events"), first
        )

    def train(self, network: Network, step: int) -> Network:
        """`network`, of the own items, after the passes of one round; a retry draws the same."""
        from recommenders.transformer import train

        public = (self._room.membership.seed, self._number, step, *self._room.name.encode())
        days = self.model.windows[int(self.popularity["alone"].strength)]
        return train(network, self.config, self.data, self.items, days, np.random.default_rng(public))

    def lists(self, reader: Reader, arm: str) -> Lists:
        """The lists of all queries by `reader`, of the own items, on top of the popularity of `arm`."""
        choice = self.popularity[arm]
        popularity = self.known.popular(int(choice.strength), choice.share)
        known = self.data, self.items, popularity, self.queries
        return sequence.lists(reader, self.config, *known, self.model.top)

    @cached_property
    def popularity(self) -> dict[str, Choice]:
        """Of each arm the popularity beneath: what does best by itself in round 0, and is kept."""
        path, shares = self._room.work(self._run, 0) / "popularity.json", self.model.shares

        def quality(choice: Choice) -> NDArray[np.float64]:
            return self._ndcg(self.known.lists(choice, self.queries, self.model.top))

        if self._number == 0 and not path.is_file():
            windows = range(len(self.model.windows))
            found = {
                arm: choose(quality, "popularity", others, windows).as_dict()
                for arm, others in (("alone", (0.0,)), ("consortium", shares))
            }
            write_json(path, found)
        known = json.loads(kept(self._room, self._run, 0, path.name)[0].read_text())
        return {arm: Choice(**each) for arm, each in known.items()}

    def own_share(self, together: Reader) -> float:
        """The share of the own network that the queries like best, where it is clear."""
        tried = [together._replace(share=share) for share in self.config.own_shares]
        quality = [self._ndcg(self.lists(each, "consortium")) for each in tried]
        return choose_share(np.array(quality), self.config.own_shares)

    def go_on_alone(self, step: int) -> None:
        """One more round of the network that knows the own events alone, kept on the own disk."""
        network, folder = self.train(self._own_after(step), step), self._folder(step + 1)
        if self._number == 0:
            tried = [(self._quality(by(network.trusted(trust))), trust) for trust in self.config.trusts]
            write_json(folder / "best.json", max(tried, key=lambda each: each[0]))
        for name, array in network._asdict().items():
            save(folder / f"{name}.npy", array)

    def own(self, most: int) -> Network:
        """That network after as many rounds, up to `most`, and trusted as far as was best in round 0."""
        self._own_after(most)
        folder, tried = self._room.work(self._run, 0), list[tuple[float, int, float]]()
        for rounds in range(1, most + 1):
            ndcg, trust = json.loads((folder / f"alone-{rounds}" / "best.json").read_text())
            tried.append((ndcg, rounds, trust))
        _, rounds, trust = max(tried, key=lambda each: each[0], default=(0.0, 0, 1.0))
        return self._own_after(rounds).trusted(trust)

    def _own_after(self, rounds: int) -> Network:
        if rounds == 0:
            return self.common(0).of(self.items)
        folder = self._folder(rounds)
        if not (folder / "table.npy").is_file():  # its part is done again
            self.go_on_alone(rounds - 1)
        return Network(*(np.load(folder / f"{name}.npy") for name in Network._fields))

    def _folder(self, rounds: int) -> Path:
        folder = self._room.work(self._run, self._number) / f"alone-{rounds}"
        folder.mkdir(exist_ok=True)
        return folder

    def _quality(self, reader: Reader) -> float:
        found = self._ndcg(self.lists(reader, "alone"))
        return float(found.mean()) if len(found) else 0.0

    def _ndcg(self, lists: Lists) -> NDArray[np.float64]:
        return per_query(lists, self.queries)[:, 0]
