"""A participant's part in training the transformer, and the one that it trains alone, for comparison.

A federated round is some passes over the own histories from the common network, and a sum of changes.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federation.channel import Channel
from federation.errors import BadInput, Refused
from federation.files import write_json
from federation.frozen import Frozen
from recommenders import sequence
from recommenders.attention import Floats, Network
from recommenders.choice import Choice, choose
from recommenders.interpolation import choose_share
from recommenders.metrics import SUMS, metric_sums, metrics, per_query
from recommenders.sequence import Reader
from tasks.exchanged import Exchanged, bound_to, keep, load
from tasks.model import ModelConfig
from tasks.prepared import Prepared
from tasks.room import Room
from tasks.terms import kept, snapshot

Lists = NDArray[np.int32]


class Learned(Frozen):
    """After how many federated rounds, and sums, the network was best; how far its scores are trusted."""

    rounds: Annotated[int, Field(ge=0)]
    sums: Annotated[int, Field(ge=0)]
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
    asked, path = Learner(room, prepared, run, number, channel), room.work(run, 0) / "own-share.json"
    common, own = asked.common(learned.sums).trusted(learned.trust), asked.own(learned.sums)
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


class Learner:
    """A participant that trains on what it knows when a round's part begins, and is asked there."""

    def __init__(self, room: Room, prepared: Prepared, run: str, number: int, channel: Channel) -> None:
        self._room, self._run, self._number, self._channel = room, run, number, channel
        self.model, self._part = room.membership.model, prepared.scored_in(number)
        self.config, self.queries = self.model.sequence, prepared.queries(self._part)
        self.known = snapshot(room, prepared, self._part, channel, prepared.listable(self._part))
        self.data, self.items = self.known.data, self.known.own_items
        self.content = prepared.embeddings(self.model.content)
        weights = f"{number}/weights/{self._part}"
        self.exchanged = Exchanged(room, run, number, self._all_rows, weights, channel)

    def learn(self, begins: int, turn: int, told: dict[str, Any]) -> None:
        """Train from the network after `begins` sums, and alone; what has changed is kept until it is added.

        `turn` is in how many sums the participant has been.
        """
        items, basis = self._learned, self.exchanged.basis(begins)
        before = self.exchanged.network(begins).of(sequence.rows(items, self.content))
        self.own_after(turn + 1)
        self.exchanged.keep(self.train(before, items, begins, basis), begins, told)

    def add(self, step: int, apart: bool, networks: dict[str, str], told: dict[str, Any]) -> None:
        """Add the change that was kept to sum `step`, as the own share of the mean.

        Raises `Refused` where each sum has a cohort of its own (`apart`) and that was not agreed, or the
        other way round: told both, it would say one change in two sums.
        """
        if apart != (agreed := self.config.exchange.together < 1):
            cohorts = "cohorts of their own" if agreed else "the same participants"
            raise Refused(f"{self._room.name}: agreed to sums among {cohorts} only")
        (path,) = kept(self._room, self._run, self._number, f"weights-{self._part}.npy")
        share, items = self.exchanged.shares(np.load(path), step), self._learned
        of_numbers = np.repeat(share[-1], self.content.shape[1])  # of which all events tell
        each = np.concatenate([share[items], of_numbers, share[-1:]])
        self.exchanged.add(step, networks, told, sequence.rows(items, self.content), each)

    def look(self, sums: int, networks: dict[str, str]) -> dict[str, Any]:
        """The consortium's figures by the network after so many sums, at the trust that does best.

        They follow from sums, and are the same at every participant.
        """
        self.exchanged.require(sums, networks)
        trusts, network = self.config.trusts, self.common(sums).of(self.items)
        found = self.mixed([network], [(trust,) for trust in trusts], "consortium")
        terms = np.stack([metric_sums(lists, self.queries) for lists in found])
        opened = self._channel.sum(f"looked/{sums}", terms.ravel(), SUMS).reshape(terms.shape)
        told = [
            {"trust": trust, "overall": metrics(each, self.model.top)}
            for trust, each in zip(trusts, opened, strict=True)
        ]
        return max(told, key=lambda each: each["overall"].get(self.model.metric, 0.0))

    def common(self, sums: int) -> Network:
        """Everybody's network after so many sums, as it reads all items."""
        return sequence.blended(self.exchanged.network(sums), self.content)

    def train(
        self, network: Network, items: NDArray[np.int32], step: int, basis: Floats | None = None
    ) -> Network:
        """What the passes of one round change of `network`, which has `items`; a retry draws the same."""
        from recommenders.transformer import train

        public = (self._room.membership.seed, self._number, step, *self._room.name.encode())
        days = self.model.windows[int(self.popularity["alone"].strength)]
        known = self.data, items, days, np.random.default_rng(public)
        return train(network, self.config, *known, self.content[items], basis)

    def lists(self, reader: Reader, arm: str) -> Lists:
        """The lists of all queries by `reader`, of the own items, on top of the popularity of `arm`."""
        networks, mix = (reader.common, reader.own), (1 - reader.share, reader.share)
        return self.mixed(networks, [mix], arm)[0]

    def mixed(self, networks: Sequence[Network], mixes: Sequence[Sequence[float]], arm: str) -> list[Lists]:
        """The same by each of `mixes`, weights of the scores of `networks`."""
        choice = self.popularity[arm]
        popularity = self.known.popular(int(choice.strength), choice.share)
        known = self.data, self.items, popularity, self.queries
        return sequence.mixed_lists(networks, mixes, self.config.size, *known, self.model.top)

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
        shares = self.config.own_shares
        found = self.mixed(
            (together.common, together.own), [(1 - each, each) for each in shares], "consortium"
        )
        return choose_share(np.array([self._ndcg(lists) for lists in found]), shares)

    def own(self, most: int) -> Network:
        """The network that knows the own events alone, after as many rounds as were best in round 0.

        These are at most as many as the own changes that were added, up to `most`.
        """
        turns = len(bound_to(self._room, self._run, 0))
        if self._number == 0:
            self.own_after(min(most, turns))
        folder, tried = self._room.work(self._run, 0), list[tuple[float, int, float]]()
        for rounds in range(1, min(most, turns) + 1):
            ndcg, trust = json.loads((folder / f"alone-{rounds}" / "best.json").read_text())
            tried.append((ndcg, rounds, trust))
        _, rounds, trust = max(tried, key=lambda each: each[0], default=(0.0, 0, 1.0))
        return self._read_alone(self.own_after(rounds)).trusted(trust)

    def own_after(self, rounds: int) -> Network:
        """The own rows of the same after so many rounds, kept; those that are not there are trained."""
        if rounds == 0:
            seed = self._room.membership.seed
            own = sequence.rows(self.items, self.content)
            return sequence.initial(self._all_rows, self.config, seed).of(own)
        folder = self._room.work(self._run, self._number) / f"alone-{rounds}"
        if not (folder / "table.npy").is_file():
            self._go_on_alone(folder, rounds - 1)
        return load(folder)

    def _go_on_alone(self, folder: Path, rounds: int) -> None:
        before = self.own_after(rounds)
        network = before.plus(self.train(before, self.items, rounds))
        if self._number == 0:
            trusts = self.config.trusts
            found = self.mixed([self._read_alone(network)], [(trust,) for trust in trusts], "alone")
            tried = [
                (float(self._ndcg(lists).sum()), trust) for lists, trust in zip(found, trusts, strict=True)
            ]
            write_json(folder / "best.json", max(tried, key=lambda each: each[0]))
        keep(folder, network)

    def _read_alone(self, network: Network) -> Network:
        return sequence.blended(network, self.content[self.items])

    @property
    def _all_rows(self) -> int:
        """Rows of a table: all items', then those of the numbers of content."""
        return sum(self.content.shape)

    @property
    def _learned(self) -> NDArray[np.int32]:
        """The own items that the common network knows."""
        return np.intersect1d(self.items, self.exchanged.learned)

    def _ndcg(self, lists: Lists) -> NDArray[np.float64]:
        return per_query(lists, self.queries)[:, 0]
