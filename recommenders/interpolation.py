"""A participant's ranker: the consortium's trees with its own beside them.

Interpolation of a common and a local model (Mansour et al. 2020, "Three Approaches for Personalization with
Applications to Federated Learning", section 4): score = (1 - share) * common + share * own.  The own trees
are grown at the participant, on its own rows, and never leave it.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federation.frozen import Frozen
from recommenders.boosting import State
from recommenders.objectives import Floats


class Interpolated(Frozen):
    """The consortium's ranker, the own one where there are rows to grow it from, and the share of the own."""

    common: State
    own: State | None
    share: Annotated[float, Field(ge=0, le=1)]

    def scores(self, features: Floats) -> Floats:
        """One score a row of `features` (n, f), (n,)."""
        own = self.own.scores(features) if self.own and self.share else None
        return self.mixed(self.common.scores(features), own)

    def mixed(self, common: Floats, own: Floats | None) -> Floats:
        """The scores of the same rows from those of both."""
        return common if own is None else (1.0 - self.share) * common + self.share * own


def choose_share(quality: NDArray[np.float64], shares: Sequence[float]) -> float:
    """The best of `shares` by `quality` (shares, queries), or the first, where none is clearly better.

    Clearly: by more than two standard errors of the paired difference. The best of several is
    beyond one by chance alone, where the few queries of a small participant tell little.
    """
    if quality.shape[1] < 2:
        return shares[0]
    gain = quality - quality[0]
    error = gain.std(axis=1, ddof=1) / np.sqrt(gain.shape[1])
    best = int(np.argmax(gain.mean(axis=1)))
    return shares[best] if gain[best].mean() > 2 * error[best] else shares[0]
