"""A participant's own terms of a round's sums, and what it knows once they are opened.

As of the beginning of each part (see `Prepared`) the consortium sums the items' popularity by window, and
X'X.  Each such sum is opened once in a run: round 1 adds only those as of the test.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel
from federation.errors import BadInput
from federation.files import save
from federation.fixed_point import FixedPoint
from recommenders import exchange, item_to_item
from recommenders.interactions import Interactions
from recommenders.metrics import COUNTS
from recommenders.popularity import windowed_counts
from recommenders.snapshot import Snapshot
from tasks import exploring
from tasks.model import ModelConfig
from tasks.prepared import Prepared
from tasks.room import Room


def keep_terms(room: Room, prepared: Prepared, run: str, number: int) -> None:
    """Write the own terms of the round's sums: popularity, X'X, what weighs in means, what was shown."""
    folder, model = room.work(run, number), room.membership.model
    if number == 0:
        exploring.keep_term(room, prepared, folder)
    if model.sums_pairs:
        item_to_item.require_memory(len(prepared.data.own_items()), model.memory_gb, model.held)
    for part in prepared.opened_in(number):
        data = prepared.before(part)
        save(folder / f"popularity-{part}.npy", counts(data, prepared.begins(part), model).ravel())
        if model.kind == "sequence":
            save(folder / f"weights-{part}.npy", weights(room, data, prepared.quality))
        if model.sums_pairs:
            for place, block in enumerate(item_to_item.gram_blocks(data)):
                save(folder / f"gram-{part}-{place}.npy", _form(room).encode(block))


def add_terms(room: Room, run: str, number: int, channel: Channel) -> None:
    """Add the kept terms to the sums of popularity, X'X, what weighs in means, and what was shown."""
    folder = kept(room, run, number, "popularity-*.npy")[0].parent
    for path in kept(room, run, number, "popularity-*.npy"):
        part = path.stem.removeprefix("popularity-")
        channel.sum(f"popularity/{part}", np.load(path), COUNTS)
        for weighs in folder.glob(f"weights-{part}.npy"):
            channel.sum(f"weights/{part}", np.load(weighs), COUNTS)
        blocks = (np.load(block) for block in in_order(folder.glob(f"gram-{part}-*.npy")))
        for _ in item_to_item.sum_gram(channel, blocks, _form(room), f"gram/{part}"):
            pass
    if number == 0:
        exploring.add_term(room, folder, channel)


def snapshot(
    room: Room, prepared: Prepared, part: int, channel: Channel, items: NDArray[np.int32]
) -> Snapshot:
    """What the participant knows of `items` when `part` begins: its own events, and the opened sums."""
    model, number = room.membership.model, 0 if part in prepared.opened_in(0) else 1
    own = own_snapshot(prepared.before(part), prepared.begins(part), items, model)
    total = channel.read(f"{number}/popularity/{part}").reshape(own.own_counts.shape)
    if not model.sums_pairs:
        return replace(own, total_counts=total)
    catalogue = own.data.item_count
    blocks = range(len(item_to_item.row_blocks(catalogue)))
    opened = (channel.read(f"{number}/gram/{part}/{block}") for block in blocks)
    whole = item_to_item.assemble(opened, catalogue, items, model.hide_below)
    np.maximum(whole, own.own_gram, out=whole, casting="unsafe")  # the own is known, though hidden in the sum
    return replace(own, total_counts=total, total_gram=whole)


def own_snapshot(
    data: Interactions, moment: int, own_items: NDArray[np.int32], model: ModelConfig
) -> Snapshot:
    """What the participant's own events, `data` before `moment`, tell of its items: as if it were alone."""
    own, gram = counts(data, moment, model), np.zeros((0, 0), np.int32)
    if model.sums_pairs:
        gram = item_to_item.own_gram(data, own_items)
    return Snapshot(data, moment, own_items, own, own, gram, gram)


def counts(data: Interactions, moment: int, model: ModelConfig) -> NDArray[np.int64]:
    """Events of each item in each window before `moment`, (windows, catalogue)."""
    return np.stack([windowed_counts(data, moment, days) for days in model.windows])


def weights(room: Room, data: Interactions, quality: float) -> NDArray[np.int64]:
    """What the participant weighs in the mean of each item's row, and of all else, (items + 1,)."""
    events = np.bincount(data.items, minlength=data.item_count)
    return exchange.weights(events, room.membership.model.sequence.exchange.weighting, quality)


def kept(room: Room, run: str, number: int, pattern: str) -> list[Path]:
    """Files that were kept for a round, in order; raises `BadInput` where there are none."""
    found = in_order(room.work(run, number).glob(pattern))
    if not found:
        raise BadInput(
            f"{room.name}: what it kept for round {number} of run {run} is gone, expected {pattern}; "
            "start a new run"
        )
    return found


def in_order(paths: Iterator[Path]) -> list[Path]:
    """By the number that their names end with."""
    return sorted(paths, key=lambda path: (len(path.stem), path.stem))


def _form(room: Room) -> FixedPoint:
    return item_to_item.gram_form(room.membership.model.users_bound, room.membership.participants)
