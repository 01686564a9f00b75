"""The networks that follow from opened sums of changes (`recommenders/exchange.py`), the same for all."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from federation.channel import Vector
from recommenders.attention import Floats, Network
from recommenders.exchange import ExchangeConfig

FIRST, SECOND, LEAST = 0.9, 0.99, 1e-3
"""beta_1, beta_2 and tau of FedAdam (Reddi et al. 2021, section 5)."""


class Common(NamedTuple):
    """Everybody's network, and what FedAdam knows of each parameter: mean change, and mean square of it."""

    network: Network
    first: Floats
    second: Floats


def step(
    common: Common,
    total: Vector,
    rows: NDArray[np.int32],
    basis: Floats | None,
    config: ExchangeConfig,
) -> Common:
    """The next network, from the opened sum of changes, of these `rows`, in `basis` where there is one.

    Elementwise in float32 by operations that IEEE 754 rounds correctly: the same bits on any machine.
    """
    network, first, second = common
    size, change, table = network.dense.size, total.astype(np.float32), np.zeros_like(network.table)
    moves = change[size:].reshape(len(rows), table.shape[1] if basis is None else len(basis))
    table[rows] = moves if basis is None else _out_of(moves, basis)
    change = np.concatenate([change[:size], table.ravel()])
    if config.server == "adam":
        first = np.float32(FIRST) * first + np.float32(1 - FIRST) * change
        second = np.float32(SECOND) * second + np.float32(1 - SECOND) * change * change
        change = np.divide(first, np.sqrt(second) + np.float32(LEAST), dtype=np.float32)
    change = np.float32(config.rate) * change
    moved = Network(change[:size], change[size:].reshape(network.table.shape))
    return Common(network.plus(moved), first, second)


def _out_of(rows: Floats, basis: Floats) -> Floats:
    """Rows in `basis` as rows of the table, (items, width); BLAS would add in an order of its own."""
    found = np.zeros((len(rows), basis.shape[1]), np.float32)
    for numbers, each in zip(rows.T, basis, strict=True):
        found += numbers[:, None] * each
    return found


class Versions:
    """Everybody's network after each sum of one round, which `total` reads by its number; `first` before any.

    Of the table the `rows` are learned, and all others are 0.  It goes on from what was last asked for, where
    that is no newer.
    """

    def __init__(
        self,
        first: Network,
        rows: NDArray[np.int32],
        config: ExchangeConfig,
        names: tuple[int, ...],
        total: Callable[[int], Vector],
    ) -> None:
        self._first, self._rows = first.of(rows).among(rows, len(first.table)), rows
        self._config, self._names, self._total = config, names, total
        self._sums, self._common = 0, self._untouched()

    def after(self, sums: int) -> Network:
        """The network after so many sums."""
        if sums < self._sums:
            self._sums, self._common = 0, self._untouched()
        while self._sums < sums:
            basis = self._config.basis(self._first.table.shape[1], *self._names, self._sums)
            self._common = step(self._common, self._total(self._sums), self._rows, basis, self._config)
            self._sums += 1
        return self._common.network

    def _untouched(self) -> Common:
        size = self._first.dense.size + self._first.table.size
        known = np.zeros(size if self._config.server == "adam" else 0, np.float32)
        return Common(self._first, known, known)
