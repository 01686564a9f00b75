"""Training of the transformer on one participant's events, by torch, which only who trains it needs."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recommenders.attention import Floats, Network, Size, named, shapes
from recommenders.augmentation import augmented, masked
from recommenders.interactions import Interactions
from recommenders.popularity import windowed_counts
from recommenders.sequence import Histories, SequenceConfig, log_popularity

MOMENTS = 64
"""As of how many moments popularity is counted in training."""

ALIKE = 16
"""Batches among which histories are sorted by length, so that little is filled up."""


class Transformer(nn.Module):
    """The network as torch trains it: that of `recommenders/attention.py`, and dropout.

    It moves the rows of its table, in the directions of `basis` (rank, width) where that is given.  The last
    rows are those of the numbers of `content` (items, d).
    """

    def __init__(
        self,
        network: Network,
        size: Size,
        dropout: float,
        content: Floats | None = None,
        basis: Floats | None = None,
    ) -> None:
        super().__init__()
        self.size, self.before = size, network
        self.table = torch.tensor(network.table)
        self.basis = None if basis is None else torch.tensor(basis)
        self.content = None if content is None or not content.size else torch.tensor(content)
        rank = size.width if basis is None else len(basis)
        self.moves = nn.Parameter(torch.zeros(len(network.table), rank))
        layer = nn.TransformerEncoderLayer(
            size.width, size.heads, 4 * size.width, dropout, batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(size.width)
        self.encoder = nn.TransformerEncoder(layer, size.blocks, norm, enable_nested_tensor=False)
        self.places = nn.Parameter(torch.empty(size.length, size.width))
        self.encoder.register_parameter("places", self.places)
        self.encoder.load_state_dict(
            {name: torch.tensor(each) for name, each in named(network.dense, size).items()}
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, histories: torch.Tensor) -> torch.Tensor:
        """What it makes of `histories` (n, steps), -1 for none, after each event: (n, steps, width)."""
        steps = histories.shape[1]
        known = (histories >= 0)[..., None]
        read = self.rows(histories.clamp(min=0)) * known * math.sqrt(self.size.width)
        read = self.dropout(read + self.places[:steps])
        causal = nn.Transformer.generate_square_subsequent_mask(steps)
        found: torch.Tensor = self.encoder(read, mask=causal, is_causal=True)
        return found

    def rows(self, items: torch.Tensor) -> torch.Tensor:
        """What is read and scored as each of `items`, (..., width): see `sequence.blended`."""
        own = self._moved(items)
        if self.content is None:
            return own
        numbers = torch.arange(len(self.content), len(self.table))
        return own + self.content[items] @ self._moved(numbers)

    def _moved(self, rows: torch.Tensor) -> torch.Tensor:
        moves = self.moves[rows]
        return self.table[rows] + (moves if self.basis is None else moves @ self.basis)

    def change(self) -> Network:
        """How far each parameter has moved, of the table in the directions of the basis."""
        learned = self.encoder.state_dict()
        dense = torch.cat([learned[name].ravel() for name in shapes(self.size)])
        return Network(dense.numpy() - self.before.dense, self.moves.detach().numpy())


def train(
    network: Network,
    config: SequenceConfig,
    data: Interactions,
    items: NDArray[np.int32],
    days: int,
    random: np.random.Generator,
    content: Floats | None = None,
    basis: Floats | None = None,
) -> Network:
    """What `config.epochs` passes over `data` change of `network`, whose table has the rows of `items`.

    Where their `content` (items, d) is given, d rows follow, one of each number.

    It learns what is had beyond the popularity of the `days` until then; of the table in the directions of
    `basis` (rank, width) alone, where that is given: the change's rows are (items, rank).  The same for the
    same `random` numbers, on one kind of processor.
    """
    lessons = Lessons(data, items, days)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(random.integers(1 << 32)))
        model = Transformer(network, config.size, config.dropout, content, basis)
        start = [each.detach().clone() for each in model.parameters()]
        adam = torch.optim.Adam(model.parameters(), config.learning_rate, betas=(0.9, 0.98))
        for users in _batches(lessons.histories, config, random):
            loss = lessons.loss(model, users, config, random) + _pull(model, start, config.proximal)
            adam.zero_grad()
            loss.backward()
            adam.step()
        return model.change()


class Lessons:
    """The histories of the users, and how popular `items` were in the `days` until each of some moments.

    Moments have as many events between them; where all events have one time, popularity is of all of them.
    """

    def __init__(self, data: Interactions, items: NDArray[np.int32], days: int) -> None:
        self.histories = Histories(data, items)
        self.had = np.unique(self.histories.places[:-1])
        shares = np.arange(1, MOMENTS + 1) / MOMENTS
        times = data.times if len(data.times) else np.zeros(1, np.int64)
        self.until = np.unique(np.quantile(times, shares, method="lower")) + 1
        counts = [windowed_counts(data, int(moment), days)[items] for moment in self.until]
        self.popular = log_popularity(np.stack(counts))

    def loss(
        self,
        model: Transformer,
        users: NDArray[np.int32],
        config: SequenceConfig,
        random: np.random.Generator,
    ) -> torch.Tensor:
        """Cross-entropy of each next event (Klenitskiy and Vasilev 2023, "Turning Dross Into Gold Loss")."""
        events = augmented(self.histories.events(users, config.length + 1), config.augment, random)
        read, following = masked(events[:, :-1], config.augment.mask, random), events[:, 1:]
        inside = following >= 0
        follows = self.histories.places[following[inside]]
        scored, excess = _scored(follows, self.had, config.negatives, random)
        moments = np.searchsorted(self.until, self.histories.times[following[inside]], side="right")
        prior = torch.tensor((self.popular[:, scored] + excess)[moments])
        states = model(torch.tensor(self.histories.places[read]))[torch.tensor(inside)]
        logits = states @ model.rows(torch.tensor(scored)).T + prior
        return nn.functional.cross_entropy(logits, torch.tensor(np.searchsorted(scored, follows)))


def _scored(
    follows: NDArray[np.int64], had: NDArray[np.int64], negatives: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], Floats]:
    """Which items a step scores, ascending: what `follows`, and `negatives` of the rest that were `had`.

    Beside them the logarithm of how many each stands for (Jean et al. 2015, "On Using Very Large Target
    Vocabulary", eq. 8-10), so that the loss is near that over all items.
    """
    follow = np.unique(follows)
    rest = np.setdiff1d(had, follow, assume_unique=True)
    drawn = random.choice(rest, min(negatives, len(rest)), replace=False)
    scored = np.concatenate([follow, drawn])
    excess = np.zeros(len(scored), np.float32)
    excess[len(follow) :] = math.log(len(rest) / max(len(drawn), 1)) if len(drawn) else 0
    order = np.argsort(scored)
    return scored[order], excess[order]


def _pull(model: Transformer, start: list[torch.Tensor], strength: float) -> torch.Tensor:
    """The proximal term of FedProx (Li et al. 2020, eq. 2)."""
    if not strength:
        return torch.zeros(())
    away = [((now - before) ** 2).sum() for now, before in zip(model.parameters(), start, strict=True)]
    return strength / 2 * torch.stack(away).sum()


def _batches(
    histories: Histories, config: SequenceConfig, random: np.random.Generator
) -> Iterator[NDArray[np.int32]]:
    """Users who had two things or more, in batches of nearly as many events, `config.epochs` times."""
    sizes = histories.sizes()
    for _ in range(config.epochs):
        users = random.permutation(np.flatnonzero(sizes > 1)).astype(np.int32)
        near = np.arange(len(users)) // (config.batch * ALIKE)
        users = users[np.lexsort((sizes[users], near))]
        starts = random.permutation(np.arange(0, len(users), config.batch))
        yield from (users[start : start + config.batch] for start in starts)
