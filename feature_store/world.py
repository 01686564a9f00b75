"""A made-up world of shops with shared tastes, for trying a consortium where the truth is known.

A user picks among the items that the shop sells, that are out and that the user has not had, with
probability proportional to exp(strength * affinity + log popularity): a multinomial logit
(McFadden 1974), drawn without replacement by the Gumbel trick (Kool et al., ICML 2019).  Items have
the same latent vectors in every shop, so that shops can learn from each other.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from feature_store.cells import INSTANT
from feature_store.cleaning import DAY, microseconds
from feature_store.errors import BadData
from feature_store.replacing import replace
from feature_store.world_files import write_events, write_truth

MARKER = "world.json"
FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
TRUTH = 50  # items of a true best list
PERIODS = 20  # tastes and the range of items are constant within one
LATENT = 8
_TEST = 0.9  # quantile of all events' times at which the truth begins
_HISTORY = (5, 200)  # events of a user
_SHRINK = 0.6  # size of a shop as a share of the next larger one

Floats = NDArray[np.float32]


class World(BaseModel):
    """How large the world is, and how much its tastes change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: Annotated[int, Field(ge=0, description="seed of everything that is drawn")] = 0
    shops: Annotated[int, Field(ge=1, description="number of shops, each 0.6 as large as the one before")] = 6
    users: Annotated[int, Field(ge=10, description="users of all shops; nobody is in two")] = 3000
    items: Annotated[int, Field(ge=20, description="items of all shops; each sells 50 to 80 % of them")] = (
        1200
    )
    days: Annotated[int, Field(ge=10, description="length of the history")] = 365
    events: Annotated[int, Field(ge=100, description="events of all shops, about")] = 180_000
    drift: Literal["none", "slow", "sudden"] = Field(
        default="slow", description="tastes and popularity stay, change all the time, or at `turn_at`"
    )
    turn: Annotated[float, Field(ge=0, le=1, description="how far they change in all; 1: to other ones")] = (
        0.5
    )
    turn_at: Annotated[float, Field(gt=0, lt=1, description="share of the time before a sudden change")] = 0.7
    new_items: Annotated[float, Field(ge=0, le=1, description="share of the items that come out later")] = 0.5
    strength: Annotated[FiniteFloat, Field(ge=0, description="how much taste counts against popularity")] = (
        2.5
    )


@dataclass(frozen=True)
class _Items:
    """What is the same in all shops; popularity is in logarithms, times are shares of the history."""

    vectors: Floats
    popularity: Floats
    later_popularity: Floats
    released: Floats


@dataclass(frozen=True)
class _Shop:
    """A shop's range and its users: (users, LATENT) tastes early and late."""

    sold: NDArray[np.int64]
    liking: Floats
    tastes: Floats
    later_tastes: Floats


@dataclass(frozen=True)
class _Events:
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64]


def generate(world: World, folder: Path, names: Sequence[str]) -> None:
    """Write each shop's events as `world_files.sources(names)` reads them, and `truth-<name>.parquet`.

    The truth has columns user and items: the 50 items that the user was likeliest to take in the last
    tenth of all events among those not had before, best first.  Nothing is done where the folder holds
    this world already.  The first of the names in order is the largest shop.  Raises `BadData` for
    another number of names than shops.
    """
    names = sorted(names)
    if len(names) != world.shops or len(set(names)) != len(names):
        raise BadData(f"world: found names {names}, expected {world.shops} different ones")
    marker = json.dumps({"world": world.model_dump(), "names": names}, indent=1) + "\n"
    if (folder / MARKER).is_file() and (folder / MARKER).read_text() == marker:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).unlink(missing_ok=True)
    items = _items(world)
    shops = [_shop(world, number) for number in range(len(names))]
    events = [_draw(world, items, shop, number) for number, shop in enumerate(shops)]
    cut = float(np.quantile(np.concatenate([each.times for each in events]), _TEST))
    for number, name in enumerate(names):
        rng = _rng(world, 3, number)
        write_events(folder, name, number, _table(world, name, events[number]), rng)
        write_truth(folder, name, _truth(world, name, items, shops[number], events[number], cut))
    replace(folder / MARKER, marker.encode())


def _rng(world: World, *stream: int) -> np.random.Generator:
    return np.random.default_rng([world.seed, *stream])


def _items(world: World) -> _Items:
    rng, count = _rng(world, 0), world.items
    zipf = -0.7 * np.log(np.arange(1, count + 1) + 5)
    released = np.where(rng.random(count) < 1 - world.new_items, -1, rng.random(count) * 0.95)
    return _Items(
        _normal(rng, count, LATENT),
        rng.permutation(zipf).astype(np.float32),
        rng.permutation(zipf).astype(np.float32),
        released.astype(np.float32),
    )


def _shop(world: World, number: int) -> _Shop:
    rng = _rng(world, 1, number)
    sizes = _SHRINK ** np.arange(world.shops)
    count = max(5, round(world.users * sizes[number] / sizes.sum()))
    sold = np.sort(rng.permutation(world.items)[: round(world.items * rng.uniform(0.5, 0.8))])
    shift = 0.4 * _normal(rng, 1, LATENT)
    tastes, later = (shift + _normal(rng, count, LATENT) for _ in range(2))
    return _Shop(sold, 0.5 * _normal(rng, 1, len(sold))[0], tastes, later)


def _normal(rng: np.random.Generator, rows: int, columns: int) -> Floats:
    return rng.standard_normal((rows, columns), dtype=np.float32)


def _draw(world: World, items: _Items, shop: _Shop, number: int) -> _Events:
    """The events of a shop by time; a user has an item once."""
    rng = _rng(world, 2, number)
    users, times = _visits(world, len(shop.tastes), rng)
    period = np.minimum((times * PERIODS).astype(np.int64), PERIODS - 1)
    had = np.zeros((len(shop.tastes), len(shop.sold)), bool)
    item = np.full(len(users), -1)
    for now in range(PERIODS):
        rows = np.flatnonzero(period == now)  # by user
        if len(rows):
            item[rows] = _picks(_appeal(world, items, shop, now), had, users[rows], rng)
    order = np.flatnonzero(item >= 0)
    order = order[np.argsort(times[order], kind="stable")]
    users, item, times = users[order], item[order], times[order]
    noise = rng.standard_normal(len(users))
    liked = np.einsum("ij,ij->i", shop.tastes[users], items.vectors[shop.sold[item]]) / np.sqrt(LATENT)
    return _Events(users, shop.sold[item], times, np.clip(np.round(3.0 + 0.6 * liked + 0.7 * noise), 1, 5))


def _visits(
    world: World, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """User and time of each event to come, by user; six users in ten stay to the end."""
    drawn = rng.lognormal(0, 0.7, count) / 1.28 * world.events / world.users  # 1.28: the lognormal's mean
    lengths = np.clip(np.round(drawn), *_HISTORY).astype(np.int64)
    begin = rng.uniform(0, 0.75, count)
    end = np.where(rng.random(count) < 0.6, 1.0, rng.uniform(begin + 0.1, 1.0))
    users = np.repeat(np.arange(count), lengths)
    return users, begin[users] + (end - begin)[users] * rng.random(len(users))


def _appeal(world: World, items: _Items, shop: _Shop, period: int) -> Floats:
    """The logit of every sold item for every user of the shop, -inf before its release."""
    now = period / PERIODS
    turned = world.turn * {"none": 0.0, "slow": now, "sudden": float(now >= world.turn_at)}[world.drift]
    kept = np.float32(1 - turned)
    tastes = kept * shop.tastes + np.float32(np.sqrt(1 - kept**2)) * shop.later_tastes
    affinity = tastes @ items.vectors[shop.sold].T / np.float32(np.sqrt(LATENT))
    popularity = kept * items.popularity + np.float32(turned) * items.later_popularity
    fresh = np.where(items.released > now, -np.inf, np.exp(-(now - items.released) / 0.1))
    appeal: Floats = world.strength * affinity + (popularity + fresh)[shop.sold] + shop.liking
    return appeal.astype(np.float32)


def _picks(
    appeal: Floats, had: NDArray[np.bool_], users: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """An item for each of `users` (ascending), -1 where none is left; marks them in `had`."""
    asked, row, counts = np.unique(users, return_inverse=True, return_counts=True)
    drawn = rng.standard_exponential((len(asked), appeal.shape[1]), dtype=np.float32)
    noise = np.log(np.maximum(drawn, np.finfo(np.float32).tiny))
    score = np.where(had[asked], -np.inf, appeal[asked] - noise)
    best, depth = _best(score, int(counts.max())), np.arange(len(users))
    depth -= np.repeat(np.cumsum(counts) - counts, counts)
    possible = depth < best.shape[1]
    picked = np.where(possible, best[row, np.minimum(depth, best.shape[1] - 1)], -1)
    picked[np.isneginf(score[row, picked])] = -1
    had[users[picked >= 0], picked[picked >= 0]] = True
    return picked


def _best(score: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The columns of the `count` largest of each row, largest first."""
    count = min(count, score.shape[1])
    top = np.argpartition(-score, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(score, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1)


def _truth(world: World, name: str, items: _Items, shop: _Shop, events: _Events, cut: float) -> pa.Table:
    """Each user's best items by the mean probability over the periods from `cut` on."""
    chance = np.zeros((len(shop.tastes), len(shop.sold)), np.float32)
    for now in range(min(int(cut * PERIODS), PERIODS - 1), PERIODS):
        appeal = _appeal(world, items, shop, now)
        odds = np.exp(appeal - appeal.max(axis=1, keepdims=True))
        chance += odds / odds.sum(axis=1, keepdims=True)
    before = events.times < cut
    chance[events.users[before], np.searchsorted(shop.sold, events.items[before])] = -1
    best = _best(chance, TRUTH)
    good = np.take_along_axis(chance, best, axis=1) > 0
    starts = np.append(0, np.cumsum(good.sum(axis=1)))
    lists = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), _item_ids(shop.sold[best][good]))
    return pa.table({"user": _user_ids(name, np.arange(len(best))), "items": lists})


def _table(world: World, name: str, events: _Events) -> pa.Table:
    seconds = (events.times * world.days * DAY).astype(np.int64) // 10**6
    times = pa.array(microseconds(FIRST_DAY) + seconds * 10**6).cast(INSTANT)
    user, item = _user_ids(name, events.users), _item_ids(events.items)
    return pa.table({"user": user, "item": item, "value": events.values, "time": times})


def _user_ids(name: str, users: NDArray[np.int64]) -> pa.Array:
    return pa.array([f"{name}-{user:05d}" for user in users.tolist()], pa.string())


def _item_ids(items: NDArray[np.int64]) -> pa.Array:
    return pa.array([f"item-{item:05d}" for item in items.tolist()], pa.string())
