"""How the networks of several organisations become one: by changes, which can be added.

Each organisation trains from the common network, and adds how that has changed it, times its share of what
weighs each parameter: the row of an item by the events of that item, the rest by all.  The sum is the mean
change (McMahan et al. 2017).  Whoever began with an older network adds its change with less weight, so nobody
needs to be waited for (Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation").
"""

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federation.channel import Vector
from federation.errors import Refused
from federation.fixed_point import FixedPoint
from federation.frozen import Frozen
from recommenders.attention import Floats, Network

Weighting = Literal["equal", "rows", "quality", "contribution"]

FORMS = {
    8: (FixedPoint(width=8, fraction_bits=7, terms=None), 0.5),
    16: (FixedPoint(width=16, fraction_bits=14, terms=None), 1.75),
    32: (FixedPoint(width=32, fraction_bits=24, terms=None), 1.75),
}
"""How a change travels, and the largest magnitude that is said of one."""

LARGEST = 64.0
"""Change of a parameter; beyond it training has gone wrong."""


class ExchangeConfig(Frozen):
    """What organisations say of their networks, whom a step waits for, and how it is taken."""

    weighting: Weighting = Field(
        default="rows",
        description="how participants weigh in a mean: equal; by rows, their events; by quality, events "
        "times the share of rows that passed cleaning; by contribution, events times how near its changes "
        "were to everybody's (Wu and Wang 2021). Of the row of an item only those count who had it, and by "
        "contribution by their events",
    )
    together: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="share of the participants whose work makes a step; below 1 training is asynchronous: "
        "who is slower goes on meanwhile, and is added when it has finished",
    )
    staleness: Annotated[float, Field(ge=0)] = Field(
        default=0.5,
        description="a of (1 + t) ** -a, the weight of a change that comes t steps after the network that it "
        "began with (Xie et al. 2019)",
    )
    server: Literal["average", "adam"] = Field(
        default="average",
        description="how the mean change is taken: as it is, or by Adam (Reddi et al. 2021, FedAdam)",
    )
    rate: Annotated[float, Field(gt=0, le=10)] = Field(
        default=1.0, description="what a step is multiplied by; for adam about 0.03"
    )
    bits: Literal[8, 16, 32] = Field(
        default=16, description="of a number in a sum; 8 are enough for up to 63 participants, better for few"
    )
    keep: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="share of the items that have rows, those that weigh most in the mean; of the others "
        "popularity alone tells, and content, and nothing of them travels (pruning)",
    )
    rank: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="numbers of an item that a federated round learns, and that travel: factors of random "
        "directions, drawn anew for each (Konečný et al. 2016; Sun et al. 2024, FFA-LoRA); null: all",
    )

    @model_validator(mode="after")
    def _directions_of_one_round(self) -> "ExchangeConfig":
        if self.rank is not None and self.together < 1:
            raise ValueError(
                f"rank: found {self.rank} with together {self.together:g}, expected null or together 1: "
                "directions are those of a round that all begin at once"
            )
        return self

    @model_validator(mode="after")
    def _contributions_to_one_mean(self) -> "ExchangeConfig":
        if self.weighting == "contribution" and self.together < 1:
            raise ValueError(
                f"weighting: found contribution with together {self.together:g}, expected together 1: shares "
                "are of what all weigh in a sum"
            )
        return self

    @property
    def form(self) -> FixedPoint:
        """How a change travels."""
        return FORMS[self.bits][0]

    @property
    def bound(self) -> float:
        """The largest magnitude of a change that is said."""
        return FORMS[self.bits][1]

    @property
    def largest_cohort(self) -> int:
        """Shares add up to 1, so a sum is within `bound` but for a unit of each term; so many fit a word."""
        return self.form.limit - round(self.bound * (1 << self.form.fraction_bits))

    def late(self, steps: int) -> float:
        """The weight of a change that comes so many steps late."""
        return float((1 + steps) ** -self.staleness)

    def basis(self, width: int, *names: int) -> Floats | None:
        """The directions of the federated round of these `names`, (rank, width), the same for everyone.

        Random signs, so long that Adam moves a row as far as without; none where all numbers are learned.
        """
        if self.rank is None:
            return None
        signs = np.random.default_rng(names).integers(2, size=(self.rank, width)) * 2 - 1
        found: Floats = (signs / np.sqrt(self.rank)).astype(np.float32)
        return found


def weights(counts: NDArray[np.int64], weighting: Weighting, passed: float) -> NDArray[np.int64]:
    """What a participant weighs in the mean of each item's row, and last in that of all else, (items + 1,).

    `counts` (items,) are its events, of which the share `passed` cleaning; by quality it is in 1,024ths.
    What it contributes is not known yet.
    """
    if weighting == "equal":
        return np.append(counts > 0, counts.any()).astype(np.int64)
    scale = round(1024 * passed) if weighting == "quality" else 1
    return scale * np.append(counts, counts.sum())


def shares(own: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.float64]:
    """The own part of the total weights, (items + 1,); 0 where nobody weighs."""
    return own / np.maximum(total, 1)


def learned(total: NDArray[np.int64], keep: float, rows: int) -> NDArray[np.int32]:
    """Which of so many `rows` are learned, ascending: the share `keep` of the items, and all of no item.

    The items are those of most `total` weight (items + 1,), and of those alike the first.
    """
    items = len(total) - 1
    kept = np.argsort(-total[:-1], kind="stable")[: math.ceil(keep * items)]
    return np.append(np.sort(kept), np.arange(items, rows)).astype(np.int32)


def term(
    change: Network,
    share: NDArray[np.float64],
    own: NDArray[np.int32],
    items: int,
    config: ExchangeConfig,
    random: np.random.Generator,
) -> Vector:
    """A participant's term: the `share` of the mean that its `change` of the `own` of all `items`' rows has.

    `share` (own items + 1,) is that of each row, and of all else.  Rounded up or down by chance, so that the
    mean is kept (Alistarh et al. 2017, "QSGD").  Raises `Refused` where training has gone so wrong that a
    parameter is no number, or has changed by more than `LARGEST`.
    """
    if not all(np.abs(each).max(initial=0.0) <= LARGEST for each in change):  # NaN is not either
        raise Refused(
            f"training changes a parameter by more than {LARGEST:g}, or to no number: "
            "expected a smaller model.sequence.learning_rate"
        )
    rows = np.zeros((items, change.table.shape[1]))
    rows[own] = share[:-1, None] * np.clip(change.table, -config.bound, config.bound)
    dense = share[-1] * np.clip(change.dense, -config.bound, config.bound)
    scale = 2.0**config.form.fraction_bits
    units = np.concatenate([dense, rows.ravel()]) * scale
    found: Vector = np.floor(units + random.random(units.size)) / scale
    return found
