"""The transformer on Amazon Beauty, each user's last item withheld: pooled rows, and averaging of several.

    CHORUS_DATA=... .venv/bin/python benchmarks/sequences.py [--organisations 1 8] [--rounds 20]

Full ranking of all items had before, without those of the user; NDCG@10 and hit rate@10 of the withheld items
after every fifth federated round.  The same file as in Klenitskiy and Vasilev 2023: there SASRec has
.0126/.0246 as it was published, .0327/.0533 with cross-entropy over all items, .0295/.0490 over 3,000.
Users are dealt to organisations by their number, so that each has a part of everybody's tastes.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from federation.channel import Vector
from recommenders import exchange, sequence
from recommenders.attention import Network
from recommenders.exchange import ExchangeConfig
from recommenders.interactions import Interactions
from recommenders.metrics import Queries, per_query
from recommenders.sequence import Reader, SequenceConfig
from recommenders.transformer import train
from recommenders.versions import Versions

EVERY = 5  # rounds, between two looks at the figures
DAYS = 3650  # of popularity: all


def beauty(folder: Path) -> Interactions:
    users, items = np.loadtxt(folder / "beauty" / "beauty.txt", dtype=np.int32).T
    order = np.argsort(users, kind="stable")
    users, items = users[order] - 1, np.unique(items[order], return_inverse=True)[1].astype(np.int32)
    return Interactions(
        users, items, np.zeros(len(users), np.int64), int(users.max()) + 1, int(items.max()) + 1
    )


def withheld(data: Interactions) -> tuple[Interactions, Queries]:
    """What is known, and the last item of each user as what is asked for."""
    last = np.append(data.users[1:] != data.users[:-1], True)
    known = data.where(~last)
    asked = data.where(last & np.isin(data.items, known.own_items()))
    seen = known.matrix()[asked.users]
    starts = np.arange(len(asked.users) + 1)
    return known, Queries(asked.users, seen.indptr.astype(np.int64), seen.indices, starts, asked.items)


class Organisation:
    """One that holds a part of the events."""

    def __init__(self, data: Interactions, config: SequenceConfig) -> None:
        self.data, self.config, self.items = data, config, data.own_items()
        counts = np.bincount(data.items, minlength=data.item_count)
        self.weights = exchange.weights(counts, config.exchange.weighting, 1.0)

    def term(
        self, network: Network, total: NDArray[np.int64], number: int, place: int, late: float = 1.0
    ) -> Vector:
        """What some passes change of `network`, which there is after `number` sums, as a term of a sum."""
        random, config = np.random.default_rng([number, place]), self.config.exchange
        basis = config.basis(self.config.width, 0, 0, number)
        learned = exchange.learned(total, config.keep, self.data.item_count)
        items, places, _ = np.intersect1d(learned, self.items, return_indices=True)
        share = exchange.shares(self.weights, total)
        own = late * np.append(share[items], share[-1])
        change = train(network.of(items), self.config, self.data, items, DAYS, random, basis=basis)
        return exchange.term(change, own, places.astype(np.int32), len(learned), config, random)


def run(
    known: Interactions, queries: Queries, organisations: int, rounds: int, config: SequenceConfig
) -> None:
    parts = [known.where(known.users % organisations == place) for place in range(organisations)]
    everyone, items = [Organisation(part, config) for part in parts], known.own_items()
    total, sums = np.sum([each.weights for each in everyone], axis=0), list[Vector]()
    first = sequence.initial(known.item_count, config, 0)
    rows = exchange.learned(total, config.exchange.keep, known.item_count)
    versions = Versions(first, rows, config.exchange, (0, 0), sums.__getitem__)
    popularity = np.bincount(known.items, minlength=known.item_count)[items]
    seconds = 0.0
    for number in range(rounds):
        began, network = time.monotonic(), versions.after(number)
        terms = [each.term(network, total, number, place) for place, each in enumerate(everyone)]
        sums.append(np.sum(terms, axis=0))  # in the clear here
        seconds += time.monotonic() - began
        if (number + 1) % EVERY:
            continue
        reader = Reader(versions.after(number + 1).of(items), first.of(items), 0.0)
        lists = sequence.lists(reader, config, known, items, popularity, queries, 10)
        ndcg, hits = per_query(lists, queries)[:, :2].sum(axis=0) / known.user_count
        told = f"{organisations} organisations, {(number + 1) * config.epochs} passes"
        print(f"{told}: NDCG@10 {ndcg:.4f}, hit rate {hits:.4f}, {seconds:.0f} s of training", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--organisations", type=int, nargs="+", default=[1, 8])
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--exchange", type=yaml.safe_load, default={}, help="model.sequence.exchange")
    given = options.parse_args()
    known, queries = withheld(beauty(Path(os.environ["CHORUS_DATA"])))
    config = SequenceConfig(exchange=ExchangeConfig(**given.exchange))
    for organisations in given.organisations:
        run(known, queries, organisations, given.rounds, config)


if __name__ == "__main__":
    main()
