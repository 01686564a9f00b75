"""A participant's part in the sums of changes of a round: the networks they make, and what it has to say.

A change is kept from its training until it is in a sum.  Which one that was outlives the work of the round,
since a sum cannot be redone.
"""

import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.channel import Channel, Vector
from federation.errors import Refused
from federation.files import read_json, save, write_json
from federation.told import digest
from recommenders import contribution, exchange, sequence
from recommenders.attention import Floats, Network
from recommenders.metrics import COUNTS
from recommenders.sequence import SequenceConfig
from recommenders.versions import Versions
from tasks import terms
from tasks.room import Room

Told = dict[str, Any]


class Exchanged:
    """What the participant has kept and heard of the sums of a round, of networks with so many `rows`.

    What weighs them is the opened sum of that name.
    """

    def __init__(self, room: Room, run: str, number: int, rows: int, weights: str, channel: Channel) -> None:
        self._name, self._config, self._rows = room.name, room.membership.model.sequence, rows
        self._work, self._folder, self._channel = (room, run, number), room.work(run, number), channel
        self._names, self._weights = (room.membership.seed, number), weights

    def network(self, sums: int) -> Network:
        """Everybody's network after so many sums of the round."""
        for step in range(sums):
            self._hear(f"{self._names[1]}/sequence/{step}", str(step))
        learned = self.learned.tobytes()
        return _versions(self._folder, self._rows, learned, self._config, *self._names).after(sums)

    @property
    def learned(self) -> NDArray[np.int32]:
        """The rows that are learned together, ascending."""
        total = np.load(self._hear(self._weights, "weights"))
        return exchange.learned(total, self._config.exchange.keep, self._rows)

    def basis(self, sums: int) -> Floats | None:
        """The directions in which training from that network moves rows; none for all."""
        return self._config.exchange.basis(self._config.width, *self._names, sums)

    def require(self, sums: int, networks: Told) -> None:
        """Raise `Refused` where that network is another than the one whose digest all were told.

        If all others had one without gradients, it would be heard alone (Pasquini et al. 2022, "Eluding
        Secure Aggregation in Federated Learning").  The sums are read anew then: it may have heard one of an
        attempt that was repeated without it.
        """
        if networks.get(str(sums)) != self.network(sums).digest():
            shutil.rmtree(self._folder / "heard", ignore_errors=True)
            _versions.cache_clear()
            raise Refused(f"{self._name}: read another network than all were told of")

    def keep(self, change: Network, begins: int, told: Told) -> None:
        """Keep how training has changed the network after `begins` sums, to be added in place of the last."""
        folder = self._folder / f"change-{begins}"
        keep(folder, change)
        kept = {"begins": begins, "told": digest(told).hex(), "change": change.digest()}
        write_json(folder / "kept.json", kept)
        for each in self._folder.glob("change-*"):
            if each != folder:
                shutil.rmtree(each)

    def shares(self, own: NDArray[np.int64], step: int) -> NDArray[np.float64]:
        """The part that the participant, whose weights are `own`, has of sum `step`, (items + 1,)."""
        found = exchange.shares(own, self._channel.read(self._weights))
        if self._config.exchange.weighting == "contribution":
            weight = np.array([contribution.weight(int(own[-1]), self._angles(step))])
            total = self._channel.sum(f"contributions/{step}", weight, COUNTS)
            found[-1:] = exchange.shares(weight, total)
        return found

    def add(
        self, step: int, networks: Told, told: Told, own: NDArray[np.int32], share: NDArray[np.float64]
    ) -> None:
        """Add the newest change, of the `own` rows that are learned, to sum `step`, as a `share` of the mean.

        Raises `Refused` where the work was told something else than all are told now, `BadInput` where it is
        gone.
        """
        (path,) = terms.kept(*self._work, "change-*/kept.json")
        kept = read_json(path)
        if kept["told"] != digest(told).hex():
            raise Refused(f"{self._name}: was told something else for learn than for average")
        self.require(kept["begins"], networks)
        self._bind(step, dict(kept))
        config = self._config.exchange
        part = config.late(step - kept["begins"]) * share
        random = np.random.default_rng((*self._names, step, *self._name.encode()))
        places, rows = np.searchsorted(self.learned, own).astype(np.int32), len(self.learned)
        term = exchange.term(change := load(path.parent), part, places, rows, config, random)
        total = self._channel.sum(f"sequence/{step}", term, config.form)
        self._measure(change, step, np.split(total, [change.dense.size]), places)
        save(self._heard(str(step)), total)

    def _measure(self, change: Network, step: int, total: list[Vector], places: NDArray[np.int32]) -> None:
        dense, table = total
        mean = Network(dense, table.reshape(-1, change.table.shape[1])[places])
        write_json(self._folder / f"angle-{step}.json", {"radians": contribution.angle(change, mean)})

    def _angles(self, sums: int) -> list[float]:
        """Between its changes and everybody's in the first so many sums, in radians, of those it was in."""
        paths = (self._folder / f"angle-{step}.json" for step in range(sums))
        return [read_json(path)["radians"] for path in paths if path.is_file()]

    def _bind(self, step: int, change: Told) -> None:
        """A change goes into one sum, and a sum has one change: the difference of two would be its own.

        Noted before it leaves; raises `Refused` for another, also where training anew ended in other bits.
        """
        bound, begins = bound_to(*self._work), change["begins"]
        elsewhere = any(each["begins"] == begins for each in bound.values())
        if bound.get(str(step)) != change and (str(step) in bound or elsewhere):
            raise Refused(
                f"{self._name}: its change was to be in another sum, or another change in sum {step}"
            )
        write_json(_bound_path(*self._work), {**bound, str(step): change})

    def _hear(self, opened: str, name: str) -> Path:
        if not (path := self._heard(name)).is_file():
            save(path, self._channel.read(opened))
        return path

    def _heard(self, name: str) -> Path:
        return self._folder / "heard" / f"{name}.npy"


def bound_to(room: Room, run: str, number: int) -> Told:
    """By each sum of the round which of the participant's changes is in it, or may be."""
    path = _bound_path(room, run, number)
    return dict(read_json(path)) if path.is_file() else {}


def _bound_path(room: Room, run: str, number: int) -> Path:
    return room.work(run, number).parent / f"bound-{int(number)}.json"


@lru_cache(maxsize=2)
def _versions(
    folder: Path, rows: int, learned: bytes, config: SequenceConfig, seed: int, number: int
) -> Versions:
    def total(step: int) -> Vector:
        found: Vector = np.load(folder / "heard" / f"{step}.npy")
        return found

    first, known = sequence.initial(rows, config, seed), np.frombuffer(learned, np.int32)
    return Versions(first, known, config.exchange, (seed, number), total)


def keep(folder: Path, network: Network) -> None:
    """Keep `network` in a folder of its own."""
    for name, array in network._asdict().items():
        save(folder / f"{name}.npy", array)


def load(folder: Path) -> Network:
    """The network that was kept there."""
    return Network(*(np.load(folder / f"{name}.npy") for name in Network._fields))
