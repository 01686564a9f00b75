"""A transformer that reads what a user had, in order, and scores what comes next.

SASRec (Kang and McAuley 2018, "Self-Attentive Sequential Recommendation"): causal self-attention over the
history, with one table for the items that are read and the items that are scored.  It says how much likelier
an item is after this history than its popularity tells: the score is the logarithm of both together.

Organisations train it together by sums of changes (`recommenders/exchange.py`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federation.frozen import Frozen
from recommenders.attention import Floats, Network, Size, scores, shapes
from recommenders.augmentation import AugmentConfig
from recommenders.exchange import ExchangeConfig
from recommenders.interactions import Interactions
from recommenders.metrics import Queries
from recommenders.topk import each_top_items


class SequenceConfig(Frozen):
    """The transformer's size, and how it is trained."""

    width: Annotated[int, Field(ge=1, le=4096)] = Field(64, description="numbers that describe an item")
    length: Annotated[int, Field(ge=1, le=4096)] = Field(
        50, description="events of a user, the newest, that are read"
    )
    blocks: Annotated[int, Field(ge=1, le=64)] = Field(2, description="blocks of self-attention")
    heads: Annotated[int, Field(ge=1)] = Field(2, description="heads of a block; they divide width")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.3, description="share of activations that training leaves out"
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(0.003, description="of Adam, at the participants")
    batch: Annotated[int, Field(ge=1)] = Field(128, description="users whose histories make one step of Adam")
    negatives: Annotated[int, Field(ge=1)] = Field(
        1000,
        description="items that a step scores beside those that follow in it; all where there are no more",
    )
    epochs: Annotated[int, Field(ge=1)] = Field(
        2, description="passes over its own histories that a participant makes in a federated round"
    )
    proximal: Annotated[float, Field(ge=0)] = Field(
        0.0, description="mu of FedProx (Li et al. 2020): what holds a participant near the common model"
    )
    augment: AugmentConfig = Field(
        AugmentConfig(), description="how histories are changed whenever training reads them"
    )
    exchange: ExchangeConfig = Field(ExchangeConfig(), description="how what is learned becomes common")
    trusts: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)] = Field(
        (1.0, 0.5, 0.2, 0.0),
        description="what a network's scores may be multiplied by, on top of popularity: what is next is not "
        "quite what comes later; the consortium's NDCG on validation chooses",
    )
    own_shares: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)] = Field(
        (0.5, 0.0, 0.25, 0.75, 1.0),
        description="weights of the own network beside the common one; the first holds unless the own "
        "validation part likes another better by more than two standard errors",
    )
    rounds: Annotated[int, Field(ge=1, le=200)] = Field(
        30, description="federated rounds, at most; one is over when the work of everybody is in a sum"
    )
    patience: Annotated[int, Field(ge=1)] = Field(
        3, description="rounds without a gain of the consortium's NDCG after which training stops"
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "SequenceConfig":
        if self.width % self.heads:
            raise ValueError(f"heads: found {self.heads}, expected a divisor of width {self.width}")
        return self

    @model_validator(mode="after")
    def _fewer_directions_than_numbers(self) -> "SequenceConfig":
        if (rank := self.exchange.rank) is not None and rank >= self.width:
            raise ValueError(f"exchange.rank: found {rank}, expected null or fewer than width {self.width}")
        return self

    @property
    def size(self) -> Size:
        """What decides how many parameters there are."""
        return Size(self.width, self.length, self.blocks, self.heads)


def initial(items: int, config: SequenceConfig, seed: int) -> Network:
    """A network that has learned nothing; the same for the same seed, whatever version of torch trains it."""
    random, parts = np.random.default_rng(seed), []
    for name, shape in shapes(config.size).items():
        if len(shape) == 2:
            spread = 0.02 if name == "places" else math.sqrt(1 / shape[1])
            parts.append(random.normal(0, spread, shape).ravel())
        else:
            parts.append(np.full(shape, float("norm" in name and name.endswith("weight"))))
    table = random.normal(0, 0.02, (items, config.width))
    return Network(np.concatenate(parts).astype(np.float32), table.astype(np.float32))


def rows(items: NDArray[np.int32], content: Floats) -> NDArray[np.int32]:
    """The rows of a table that are of `items`, and those of the numbers of all items' `content` (n, d)."""
    numbers = np.arange(len(content), sum(content.shape), dtype=np.int32)
    return np.concatenate([items, numbers])


def blended(network: Network, content: Floats) -> Network:
    """The network as it reads and scores items: the row of each, and what its `content` (items, d) adds.

    That is by the last d rows of the table, one for each number (Kula 2015, "Metadata embeddings for user and
    item cold-start recommendations"): so they tell of items, too, that nobody had.
    """
    items = len(content)
    return Network(network.dense, network.table[:items] + content @ network.table[items:])


class Histories:
    """The events of each user as places in `items` (ascending), in the order in which they happened."""

    def __init__(self, data: Interactions, items: NDArray[np.int32]) -> None:
        order = np.argsort(data.users, kind="stable")
        place = np.full(data.item_count, -1, np.int64)
        place[items] = np.arange(len(items))
        order = order[place[data.items[order]] >= 0]
        self.places, self.times = np.append(place[data.items[order]], -1), data.times[order]
        self._starts = np.concatenate(
            [[0], np.cumsum(np.bincount(data.users[order], minlength=data.user_count))]
        )

    def sizes(self) -> NDArray[np.int64]:
        """How many events each user has, (users,)."""
        return np.diff(self._starts)

    def newest(self, users: NDArray[np.int32], most: int) -> NDArray[np.int64]:
        """Places of the `most` newest events of each of `users`, oldest first, (users, width), then -1."""
        return self.places[self.events(users, most)]

    def events(self, users: NDArray[np.int32], most: int) -> NDArray[np.int64]:
        """The same as numbers of events, among `places` and `times`; -1 is of no event, at place -1."""
        ends = self._starts[users + 1]
        starts = np.maximum(self._starts[users], ends - most)
        sizes = ends - starts
        steps = np.arange(max(1, int(sizes.max(initial=0))))
        inside = steps < sizes[:, None]
        found = np.full(inside.shape, -1, np.int64)
        found[inside] = (starts[:, None] + steps)[inside]
        return found


class Reader(NamedTuple):
    """The consortium's network with the participant's own beside it, which has a `share` of the score.

    Interpolation, as with trees (`recommenders/interpolation.py`).
    """

    common: Network
    own: Network
    share: float

    def of(self, items: NDArray[np.int32]) -> "Reader":
        """The same with the rows of `items` alone."""
        return Reader(self.common.of(items), self.own.of(items), self.share)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What it is made of, by name."""
        networks = (("common", self.common), ("own", self.own))
        parts = {f"{who}-{part}": each for who, net in networks for part, each in net._asdict().items()}
        return {**parts, "share": np.array(self.share)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Reader":
        """The reader of these `arrays`; raises `KeyError` where one is missing."""
        common, own = (
            Network(*(arrays[f"{who}-{part}"] for part in Network._fields)) for who in ("common", "own")
        )
        return cls(common, own, float(arrays["share"]))

    def scores(self, size: Size, histories: NDArray[np.int64]) -> Floats:
        """How much likelier each item is after each of `histories`, as a logarithm, (n, items)."""
        found = np.float32(1 - self.share) * scores(self.common, size, histories)
        return found + np.float32(self.share) * scores(self.own, size, histories) if self.share else found


def lists(
    reader: Reader,
    config: SequenceConfig,
    data: Interactions,
    items: NDArray[np.int32],
    popularity: NDArray[Any],
    queries: Queries,
    top: int,
) -> NDArray[np.int32]:
    """What `reader`, of `items`, lists on top of their `popularity`, after all of `data`; (queries, top)."""
    networks, mix = (reader.common, reader.own), (1 - reader.share, reader.share)
    return mixed_lists(networks, [mix], config.size, data, items, popularity, queries, top)[0]


def mixed_lists(
    networks: Sequence[Network],
    mixes: Sequence[Sequence[float]],
    size: Size,
    data: Interactions,
    items: NDArray[np.int32],
    popularity: NDArray[Any],
    queries: Queries,
    top: int,
) -> list[NDArray[np.int32]]:
    """Lists by each of `mixes`, weights of the scores of `networks`, which read each history at most once."""
    known, popular = Histories(data, items), log_popularity(popularity)
    asked = [any(weights) for weights in zip(*mixes, strict=True)]
    nothing = np.zeros((0, 0), np.float32)  # of a network that has no weight

    def score(rows: slice) -> Iterator[Floats]:
        read = known.newest(queries.users[rows], size.length)
        found = [
            scores(network, size, read) if has_weight else nothing
            for network, has_weight in zip(networks, asked, strict=True)
        ]
        for mix in mixes:
            parts = (np.float32(weight) * each for weight, each in zip(mix, found, strict=True) if weight)
            yield sum(parts, np.zeros((len(read), len(items)), np.float32)) + popular

    return each_top_items(score, len(mixes), queries, items, data.item_count, top)


def scored(
    reader: Reader,
    config: SequenceConfig,
    known: Histories,
    popularity: NDArray[Any],
    users: NDArray[np.int32],
) -> Floats:
    """The scores of all items for each of `users`, (users, items)."""
    return reader.scores(config.size, known.newest(users, config.length)) + log_popularity(popularity)


def log_popularity(counts: NDArray[np.floating[Any]] | NDArray[np.integer[Any]]) -> Floats:
    """What the network's scores come on top of: the logarithm of one more than the counts, same shape."""
    found: Floats = np.log1p(counts).astype(np.float32)
    return found
