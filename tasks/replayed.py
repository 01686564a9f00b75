"""What a replay found: each policy's figures, the best of those that adjust themselves, and the plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from federation.frequency import Periodic
from federation.observation import Costs
from mlruns_config.figures import replay_figure
from tasks.replay import Follower

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BURN_IN = 0.25  # share of the windows in which models are chosen, and a bandit may still be learning

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Replayed:
    """The policies after their life in virtual time, the one that always trains first."""

    followers: Sequence[Follower]
    moments: Sequence[int]
    top: int
    costs: Costs
    queries: list[int] = field(default_factory=list)

    @property
    def always(self) -> Follower:
        """The oracle, which trains at every step."""
        return self.followers[0]

    @property
    def dynamic(self) -> list[Follower]:
        """The policies that adjust their interval."""
        return [each for each in self.followers if not isinstance(each.config.policy, Periodic)]

    @property
    def fixed(self) -> list[Follower]:
        """The fixed intervals, the shortest first."""
        return [each for each in self.followers if isinstance(each.config.policy, Periodic)]

    @property
    def best_late(self) -> Follower:
        """Of these the one that kept most, less its cost, when models were chosen and all had learned."""
        return max(self.dynamic, key=lambda each: self.worth(each, BURN_IN))

    def figures(self) -> dict[str, Any]:
        """Each policy's metric over all queries, what it spent, and its regret, as JSON.

        The regret is how far the metric was below the oracle's, summed over the windows.
        """
        return {
            "policies": {each.name: self._figures(each) for each in self.followers},
            "always": self.always.name,
            "best_dynamic": max(self.dynamic, key=self.worth).name,
        }

    def kept(self, each: Follower, begin: float = 0.0) -> float:
        """The share of the oracle's metric that the policy kept, from a share of the windows on."""
        return self._ndcg(each, begin) / self._ndcg(self.always, begin)

    def half_interval(self, each: Follower, than: Follower, begin: float = 0.0) -> float:
        """Half of the 95 % bootstrap interval of what `each` kept beyond `than`, as a share; same queries."""
        late = int(begin * len(self.queries))
        mine, other = (np.sum(one.drawn[late:], axis=0) for one in (each, than))
        beyond = (mine - other)[:, 0] / np.maximum(mine[:, 1], 1.0)
        return 1.96 * float(beyond.std(ddof=1)) / self._ndcg(self.always, begin)

    def trained(self, each: Follower, begin: float = 0.0) -> float:
        """The share of the oracle's trainings that the policy did, from a share of the windows on."""
        spent = [trained for trained, _, _ in each.spent]
        return float(np.mean(spent[int(begin * len(spent)) :]))

    def worth(self, each: Follower, begin: float = 0.0) -> float:
        """What all policies are after: the metric that is kept, less what the trainings cost."""
        return self.kept(each, begin) - self.costs.training * self.trained(each, begin)

    def over_fixed(self, each: Follower) -> float:
        """How far the policy kept more than fixed intervals with as many trainings, interpolated."""
        points = sorted((self.trained(one), self.kept(one)) for one in self.fixed)
        return self.kept(each) - float(np.interp(self.trained(each), *zip(*points, strict=True)))

    def metrics(self) -> dict[str, float]:
        """The figures under MLflow's names, `<policy>/<figure>`."""
        told = self.figures()["policies"]
        return {f"{name}/{key}": value for name, figures in told.items() for key, value in figures.items()}

    def params(self) -> dict[str, str]:
        """The windows, the costs and the policies."""
        span = [day(moment) for moment in (self.moments[0], self.moments[-1])]
        configured = {each.name: each.config.policy.model_dump_json() for each in self.followers}
        return {
            "windows": f"{len(self.queries)} from {span[0]} to {span[1]}",
            "costs": self.costs.model_dump_json(),
            **configured,
        }

    def plot(self) -> "Figure":
        """The course of every policy, side by side."""
        moments = [datetime.fromtimestamp(moment / 1e6, UTC) for moment in self.moments[1:]]
        courses = {each.name: self._course(each) for each in self.followers}
        return replay_figure(moments, courses, [each.name for each in self.fixed], f"NDCG@{self.top}")

    def _figures(self, each: Follower) -> dict[str, float]:
        course = self._course(each)
        figures = {f"ndcg_at_{self.top}": self._ndcg(each), "trainings": int(course["trainings"].sum())}
        figures |= {name: float(np.nansum(course[name])) for name in ("bytes", "seconds", "regret")}
        if len(each.metrics[0]) > 1:
            figures[f"popularity_ndcg_at_{self.top}"] = self._ndcg(each, arm=1)
        return {
            **figures,
            "kept": self.kept(each),
            "kept_half_interval": self.half_interval(each, self.always),
            "late_worth": self.worth(each, BURN_IN),
            "late_half_interval": self.half_interval(each, self.best_late, BURN_IN),
        }

    def _ndcg(self, each: Follower, begin: float = 0.0, arm: int = 0) -> float:
        late = slice(int(begin * len(self.queries)), None)
        weights, values = np.array(self.queries[late], float), np.array(each.metrics[late])[:, arm]
        return float(weights @ values / max(weights.sum(), 1.0))

    def _course(self, each: Follower) -> Mapping[str, Floats]:
        """The policy's figures in each window; its metric and regret are NaN where nobody asked."""
        asked = np.where(np.array(self.queries) > 0, 1.0, np.nan)
        metric, oracle = (np.array(one.metrics)[:, 0] * asked for one in (each, self.always))
        trained, seconds, sent = np.array(each.spent, float).T
        return {
            "metric": metric,
            "trainings": trained,
            "bytes": sent,
            "seconds": seconds,
            "regret": oracle - metric,
        }


def burn_in(moments: Sequence[int]) -> Sequence[int]:
    """The moments of the windows in which models are chosen, one window at least."""
    return moments[: 1 + max(int(BURN_IN * (len(moments) - 1)), 1)]


def day(moment: int) -> str:
    """The day of a moment in microseconds, as 2016-10-08."""
    return f"{datetime.fromtimestamp(moment / 1e6, UTC):%Y-%m-%d}"
