"""What exploring brings where items come out all the time: rewards by list, alone and together.

    .venv/bin/python benchmarks/exploration.py --seeds 10

A made-up market of four shops, each 0.4 as large as the one before.  Items come out all the time, in each
shop some weeks later, are liked more or less, and less from week to week.  A shop lists what sold most there
in the last weeks, of what has been sold there at all.  Who is shown an item has it with a probability that
grows with how much it is liked and falls with its place; some events a week are not by a list.  Each week all
that was shown is summed, and is the policy of the next lists:

- none: nothing is tried; random: the last places are drawn
- alone: each shop learns from its own lists; together: from everybody's, by a masked sum
- pooled: from everybody's impressions in one place, which must be the same sums and rewards, to the last bit
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from federation.plan import RoundPlan
from federation.simulate import simulate
from recommenders import exploration
from recommenders.exploration import FEATURES, FORM, ExploreConfig, Floats

ITEMS, WEEKS, TOP, RECENT, HALF_LIFE = 600, 40, 10, 4, 10
LISTS = (160, 64, 26, 10)
"""Of each shop in a week; it has three users for each, and one event in ten lists that is by none."""


class Shop:
    """What a shop knows: who had what, how often each item was had by week, and what it has shown."""

    def __init__(self, place: int, sold_from: NDArray[np.int64]) -> None:
        self.place, self.lists, self.sold_from = place, LISTS[place], sold_from
        self.had = np.zeros((3 * self.lists, ITEMS), bool)
        self.counts = np.zeros((WEEKS + RECENT, ITEMS))
        self.shown, self.rewards = [np.zeros((0, len(FEATURES)))], [np.zeros(0, bool)]

    def recent(self, week: int) -> Floats:
        """How often each item was had here in the last weeks."""
        return np.asarray(self.counts[week : week + RECENT].sum(axis=0))

    def buy(self, user: int, item: int, week: int) -> None:
        """The user has the item in this week."""
        self.had[user, item] = True
        self.counts[week + RECENT, item] += 1


class Market:
    """The truth: when items come out, and how much they are liked."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        old, later = rng.integers(-20, 0, 60), rng.integers(0, WEEKS, ITEMS - 60)
        self.seed, self.out, self.quality = seed, np.concatenate([old, later]), rng.beta(1, 6, ITEMS)
        self.shops = [Shop(place, self.out + rng.integers(0, 6, ITEMS)) for place in range(len(LISTS))]

    def liked(self, week: int) -> Floats:
        """With which probability an item in the first place is had, (items,)."""
        return np.asarray(0.6 * self.quality * np.exp2(-np.maximum(week - self.out, 0) / HALF_LIFE))


class List(NamedTuple):
    """What a user is shown."""

    user: int
    items: NDArray[np.int64]
    contexts: Floats


Learn = Callable[[list[Shop]], list[Floats]]


def play(seed: int, config: ExploreConfig, learn: Learn | None) -> tuple[Floats, list[list[Floats]]]:
    """Rewards (weeks, shops), and each week's sums by shop; where it does not `learn`, it tries at random."""
    market, rewards, sums = Market(seed), np.zeros((WEEKS, len(LISTS))), []
    for week in range(WEEKS):
        opened = learn(market.shops) if learn else []
        sums.append(opened)
        lists = [make(market, shop, week, config, opened) for shop in market.shops]
        rewards[week] = [react(market, *each, week) for each in zip(market.shops, lists, strict=True)]
    return rewards, sums


def make(market: Market, shop: Shop, week: int, config: ExploreConfig, opened: list[Floats]) -> list[List]:
    """The lists of a shop's week."""
    rng, own = np.random.default_rng([market.seed, week, shop.place]), shop.recent(week)
    others = sum(each.recent(week) for each in market.shops) - own
    ages = 7.0 * (week + RECENT - np.argmax(shop.counts > 0, axis=0))
    known, found = exploration.policy(opened[shop.place] if opened else None), list[List]()
    for user in rng.choice(len(shop.had), shop.lists, replace=False):
        offered = np.flatnonzero(shop.counts.any(axis=0) & ~shop.had[user])
        items = offered[np.argsort(-own[offered], kind="stable")]
        counts = own[items], others[items], shop.counts[week + RECENT - 1, items]
        contexts = exploration.contexts(*counts, ages[items], int(shop.had[user].sum()))
        worth = exploration.worth(known, contexts, config, rng) if opened else rng.random(len(items))
        chosen = exploration.places(worth, TOP, config.places)
        found.append(List(int(user), items[chosen], contexts[chosen]))
    return found


def react(market: Market, shop: Shop, lists: list[List], week: int) -> int:
    """Users have some of what they are shown, and a few something else; returns the rewards."""
    rng, liked = np.random.default_rng([market.seed, week, shop.place, 1]), market.liked(week)
    attention, rewards = 1 / np.log2(np.arange(TOP) + 2), 0
    for each in lists:
        had = rng.random(len(each.items)) < liked[each.items] * attention[: len(each.items)]
        shop.shown.append(each.contexts)
        shop.rewards.append(had)
        rewards += int(had.sum())
        for item in each.items[had]:
            shop.buy(each.user, item, week)
    sold = np.flatnonzero(shop.sold_from <= week)
    chances = liked[sold] / liked[sold].sum()
    for item in rng.choice(sold, max(1, shop.lists // 10), p=chances):
        shop.buy(int(rng.integers(len(shop.had))), item, week)
    return rewards


def alone(shops: list[Shop]) -> list[Floats]:
    """Each learns from its own."""
    return [pooled([shop])[0] for shop in shops]


def together(shops: list[Shop]) -> list[Floats]:
    """All learn from one masked sum."""

    def part(own: Floats, channel):
        return channel.sum("exploration/statistics", own, FORM)

    parts = {f"shop-{place}": partial(part, own) for place, own in enumerate(alone(shops))}
    plan = RoundPlan(run="exploration", number=0, cohort=tuple(parts), deadline_seconds=60)
    return [*simulate(parts, plan).values()]


def pooled(shops: list[Shop]) -> list[Floats]:
    """All learn from everybody's impressions, in one place."""
    shown = np.concatenate([each for shop in shops for each in shop.shown])
    rewards = np.concatenate([each for shop in shops for each in shop.rewards])
    return [exploration.statistics(shown, rewards)] * len(shops)


def main() -> None:
    """Play each arm over the seeds, and print what it brought."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--places", type=int, default=2)
    parser.add_argument("--boldness", type=float, default=ExploreConfig().boldness)
    parser.add_argument("--policy", choices=("thompson", "linucb"), default=ExploreConfig().policy)
    given = parser.parse_args()
    config = ExploreConfig(places=given.places, policy=given.policy, boldness=given.boldness)
    arms = {"none": (config.model_copy(update={"places": 0}), None), "random": (config, None)}
    arms |= {learn.__name__: (config, learn) for learn in (alone, together, pooled)}
    seeds = range(given.first, given.first + given.seeds)
    found = {arm: [play(seed, *how) for seed in seeds] for arm, how in arms.items()}
    for ours, theirs in zip(found["together"], found["pooled"], strict=True):
        assert np.array_equal(ours[0], theirs[0])
        assert np.array_equal(ours[1], theirs[1])
    print(f"{config.policy}, {config.places} places, boldness {config.boldness:g}, {given.seeds} seeds")
    show({arm: np.stack([rewards for rewards, _ in each]) for arm, each in found.items()})


def show(rewards: dict[str, Floats]) -> None:
    """Rewards by list, from (seeds, weeks, shops), by time and of the smallest shop; the change of all."""
    parts = {"weeks 1-5": slice(0, 5), "6-20": slice(5, 20), "21-40": slice(20, None)}
    print("| arm | " + " | ".join(parts) + " | all | over none | smallest shop | over none |")
    print("|---" + "|--:" * (len(parts) + 4) + "|")
    for arm, each in rewards.items():
        cells = [f"{each[:, part].sum(axis=2).mean() / sum(LISTS):.3f}" for part in parts.values()]
        for shops in (slice(None), slice(-1, None)):
            ours, none = (kind[:, :, shops].sum(axis=(1, 2)) for kind in (each, rewards["none"]))
            gains = ours / none - 1
            error = 100 * gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.nan
            change = "" if arm == "none" else f"{gains.mean():+.1%} ±{error:.1f}"
            cells += [f"{ours.mean() / WEEKS / sum(LISTS[shops]):.3f}", change]
        print(f"| {arm} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
