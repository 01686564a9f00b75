"""How organisations exchange what they learn: NDCG by bytes and by time, over the seven markets of XMarket.

    CHORUS_DATA=... .venv/bin/python benchmarks/exchanges.py [--rounds 8] [--slow in] "{}" "{together: 0.5}"

Each argument is a `model.sequence.exchange`.  Of each user the last item is left out, the one before it is
asked for; NDCG@10 over users after each federated round.  The clock is a made-up one, on which a market
trains as long as it has events (20,000 a unit; a `--slow` one fifty times as long), and nothing else takes
time: so asynchronous exchanges, whose order of arrival is chance elsewhere, are the same each time.
"""

import argparse
import heapq
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from sequences import Organisation, withheld

from federation.channel import Vector
from recommenders import exchange, sequence
from recommenders.attention import Network
from recommenders.exchange import ExchangeConfig
from recommenders.interactions import Interactions
from recommenders.metrics import per_query
from recommenders.sequence import SequenceConfig
from recommenders.versions import Versions

MARKETS = ("ca", "de", "fr", "in", "jp", "mx", "uk")
LEAST = 3  # participants in a sum
PER_UNIT = 20_000  # events that a market trains on in one unit of time
SLOW = 50  # times as long


def markets(folder: Path) -> list[Interactions]:
    """The events of each market in order, less each user's last, over one catalogue."""
    tables = [pd.read_csv(folder / "xmarket" / f"{name}_5core.txt", sep=" ") for name in MARKETS]
    items = np.unique(np.concatenate([table["itemId"] for table in tables]))
    found = []
    for table in tables:
        table = table.sort_values("date", kind="stable").sort_values("userId", kind="stable")
        users = pd.factorize(table["userId"])[0].astype(np.int32)
        places = np.searchsorted(items, table["itemId"]).astype(np.int32)
        times = pd.to_datetime(table["date"]).to_numpy("datetime64[us]").astype(np.int64)
        data = Interactions(users, places, times, int(users.max()) + 1, len(items))
        found.append(data.where(~np.append(users[1:] != users[:-1], True)))
    return found


def steps(durations: list[float], enough: int) -> Iterator[tuple[float, list[int], bool]]:
    """When each sum is, of whose work, and whether a federated round is over (`tasks/learning.py`)."""
    under_way = [(duration, place) for place, duration in enumerate(durations)]
    heapq.heapify(under_way)
    everyone, since = set(range(len(durations))), set[int]()
    while True:
        finished, clock = list[int](), 0.0
        while under_way and (len(finished) < enough or since | set(finished) == everyone):
            clock, place = heapq.heappop(under_way)
            finished.append(place)
        over = since | set(finished) == everyone
        since = set() if over else since | set(finished)
        yield clock, sorted(finished), over
        for place in finished:
            heapq.heappush(under_way, (clock + durations[place], place))


class Consortium:
    """The markets, who exchange by `config`; those at the places `slow` have slow machines."""

    def __init__(self, parts: list[Interactions], config: ExchangeConfig, slow: set[int]) -> None:
        self.config = SequenceConfig(exchange=config)
        asked = [withheld(part) for part in parts]
        self.members = [Organisation(known, self.config) for known, _ in asked]
        self.queries = [queries for _, queries in asked]
        self.durations = [
            len(each.data.users) / PER_UNIT * (SLOW if place in slow else 1)
            for place, each in enumerate(self.members)
        ]
        self.total = np.sum([each.weights for each in self.members], axis=0)
        self.sums = list[Vector]()
        first = sequence.initial(parts[0].item_count, self.config, 0)
        rows = exchange.learned(self.total, config.keep, len(first.table))
        self.versions = Versions(first, rows, config, (0, 0), self.sums.__getitem__)

    def run(self, rounds: int) -> Iterator[tuple[float, float]]:
        """The clock at the end of each federated round, and NDCG@10 over users."""
        enough = max(LEAST, math.ceil(self.config.exchange.together * len(self.members)))
        begins = dict.fromkeys(range(len(self.members)), 0)
        for clock, finished, over in steps(self.durations, enough):
            step = len(self.sums)
            terms = [self._term(place, begins[place], step) for place in finished]
            self.sums.append(np.sum(terms, axis=0))
            begins |= dict.fromkeys(finished, step + 1)
            if over:
                yield clock, self._ndcg(self.versions.after(step + 1))
                rounds -= 1
            if not rounds:
                return

    def _term(self, place: int, begins: int, step: int) -> Vector:
        network, late = self.versions.after(begins), self.config.exchange.late(step - begins)
        return self.members[place].term(network, self.total, begins, place, late)

    def _ndcg(self, network: Network) -> float:
        found = list[float]()
        for each, queries in zip(self.members, self.queries, strict=True):
            popular = np.bincount(each.data.items, minlength=each.data.item_count)[each.items]
            networks, size = [network.of(each.items)], self.config.size
            asked = size, each.data, each.items, popular, queries, 10
            (lists,) = sequence.mixed_lists(networks, [(1.0,)], *asked)
            found += per_query(lists, queries)[:, 0].tolist()
        return float(np.mean(found))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("exchange", nargs="+")
    options.add_argument("--rounds", type=int, default=8)
    options.add_argument("--slow", action="append", choices=MARKETS, default=[])
    given = options.parse_args()
    slow = {MARKETS.index(name) for name in given.slow}
    parts = markets(Path(os.environ["CHORUS_DATA"]))
    for text in given.exchange:
        config = ExchangeConfig(**(yaml.safe_load(text) or {}))
        consortium = Consortium(parts, config, slow)
        for number, (clock, ndcg) in enumerate(consortium.run(given.rounds), 1):
            sent = sum(len(each) for each in consortium.sums) * config.bits / 8e6
            told = f"{text}, federated round {number}: time {clock:.1f}, {len(consortium.sums)} sums"
            print(f"{told}, {sent:.2f} MB of sums, NDCG@10 {ndcg:.4f}", flush=True)


if __name__ == "__main__":
    main()
