"""What was shown to a participant's users, and the consortium's policy of what is worth trying.

What is shown stays in the participant's folder, a file for each list, until `explore.keep_days` have passed.
Each run sums anew, over the cohort, the `statistics` of all of it that is old enough: so nothing has to be
remembered of what earlier runs have summed, and what is dropped is forgotten.
"""

import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ConfigDict, model_validator

from feature_store.catalogue import index, read_catalogue
from federation.channel import Channel
from federation.files import read_json, save, write_json
from federation.frozen import Frozen
from recommenders import exploration
from recommenders.exploration import FEATURES, FORM, Floats, counts
from recommenders.interactions import taken
from recommenders.metrics import COUNTS
from recommenders.popularity import DAY
from tasks.prepared import Prepared
from tasks.room import Room


class Shown(Frozen):
    """A list that was shown `at` a moment (microseconds since 1970), with each item's context."""

    model_config = ConfigDict(hide_input_in_errors=True)

    user: str
    at: int
    items: tuple[str, ...]
    features: tuple[str, ...] = FEATURES
    contexts: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _whole(self) -> "Shown":
        if [len(each) for each in self.contexts] != [len(self.features)] * len(self.items):
            raise ValueError(f"expected all features of each of {len(self.items)} items")
        return self


class Opened(Frozen):
    """A sum of statistics, with the names of the features that it is of."""

    features: tuple[str, ...] = FEATURES
    statistics: tuple[float, ...]

    @model_validator(mode="after")
    def _whole(self) -> "Opened":
        size = len(self.features)
        if len(self.statistics) != (expected := size * (size + 3) // 2):  # of A the upper triangle, and b
            raise ValueError(f"found {len(self.statistics)} numbers, expected {expected}")
        return self


def show(room: Room, user: str, listed: pa.Array, contexts: Floats, top: int) -> NDArray[np.intp]:
    """The places of what `user` is shown now in the model's list; it is kept in the participant's folder.

    The model's list is of item ids `listed` (n,) with their `contexts` (n, d).
    """
    config, known = room.membership.explore, exploration.policy(newest(room))
    worth = exploration.worth(known, contexts, config, np.random.default_rng())
    found = exploration.places(worth, top, config.places)
    at, items, rows = time.time_ns() // 1000, listed.take(found).to_pylist(), contexts[found].tolist()
    shown = Shown(user=user, at=at, items=tuple(items), contexts=tuple(map(tuple, rows)))
    write_json(room.shown / str(at // DAY) / f"{at}-{secrets.token_hex(8)}.json", shown.model_dump())
    return found


def keep_term(room: Room, prepared: Prepared, folder: Path) -> None:
    """Write the own term of the sum: of all that was shown so long ago that the events tell what came of it.

    What was shown too long ago is dropped first.  Raises `BadInput` for a damaged file of what was shown.
    """
    if room.membership.explore.places:
        room.forget_shown()
        paths = sorted(room.shown.glob("*/*.json"))
        lists = [read_json(path, Shown.model_validate_json) for path in paths]
        known = [each for each in lists if each.features == FEATURES]
        save(folder / "exploration.npy", _term(room, prepared, known))


def add_term(room: Room, folder: Path, channel: Channel) -> None:
    """Add the kept term to the sum `exploration/statistics`.

    It is opened where as many as the rounds' minimum have something to add: of fewer it would be theirs.
    """
    if room.membership.explore.places:
        mine = np.load(folder / "exploration.npy")
        if _enough(room, channel.sum("exploration/held", np.array([counts(mine)[0] > 0]), COUNTS)):
            channel.sum("exploration/statistics", mine, FORM)


def keep_opened(room: Room, run: str, channel: Channel) -> None:
    """Keep with the model of `run` what was opened, if it was."""
    if room.membership.explore.places and _enough(room, channel.read("0/exploration/held")):
        opened = Opened(statistics=tuple(channel.read("0/exploration/statistics").tolist()))
        write_json(room.model(run) / "exploration.json", opened.model_dump())


def newest(room: Room) -> Floats | None:
    """The sum that was opened last, of the participant's runs; none where there is none of these features.

    It is of the newest run, whose model need not be the champion.  Raises `BadInput` where it is damaged.
    """
    paths = sorted(room.home.glob("models/*/exploration.json"), key=lambda path: path.stat().st_mtime_ns)
    found = [read_json(path, Opened.model_validate_json) for path in paths[-1:]]
    return np.array(found[0].statistics) if found and found[0].features == FEATURES else None


def _term(room: Room, prepared: Prepared, lists: Sequence[Shown]) -> Floats:
    """The statistics of the `lists`, of users and items that the run knows, whose windows have passed."""
    config, data = room.membership.explore, prepared.data
    catalogue = read_catalogue(room.membership.catalogue)[: data.item_count]
    items = index(catalogue, _strings(item for each in lists for item in each.items))
    asked = index(prepared.user_ids.cast(pa.string()), _strings(each.user for each in lists))
    lengths, moments = [len(each.items) for each in lists], np.array([each.at for each in lists], np.int64)
    users, at = np.repeat(asked, lengths), np.repeat(moments, lengths)
    contexts = np.array([row for each in lists for row in each.contexts]).reshape(-1, len(FEATURES))
    window = round(config.window_days * DAY)
    tell = (users >= 0) & (items >= 0) & (at + window <= data.times.max(initial=0))
    rewards = taken(data, users[tell], items[tell], at[tell], window)
    return exploration.statistics(contexts[tell], rewards)


def _strings(ids: Iterable[str]) -> pa.Array:
    return pa.array(ids, pa.string())


def _enough(room: Room, held: NDArray[np.int64]) -> bool:
    return int(held[0]) >= room.membership.rounds.minimum
