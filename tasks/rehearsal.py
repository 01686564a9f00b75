"""One participant in virtual time: what it learns by a moment, and how that fares in a later window.

What is its own follows its events in every window; what is the others' waits for a training.
Its models are kept up to date instead of trained anew, and are those that a training on the sums gives.
Everything lies on one machine, as in a comparison with pooled rows: the short cut reads the others' changed
users.  What the figures are made of passes as sums over a channel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from feature_store import splits
from feature_store.features import AsOfFeatures
from federation.channel import Channel
from federation.drift import feature_counts
from federation.exact_sum import INTEGERS
from federation.sketch import quantiles
from recommenders import incremental
from recommenders.choice import Choice, Kind
from recommenders.incremental import Inverse
from recommenders.interactions import Interactions
from recommenders.metrics import COUNTS, SUMS, Queries, bootstrap_sums, per_query
from recommenders.popularity import blend, left_of, moved, windowed_counts
from recommenders.topk import top_items, top_popular
from recommenders.two_stage import STORE
from tasks.drift import drift
from tasks.model import ModelConfig
from tasks.prepared import store_features

DRAWS = 100
BEGIN = 0.2
Window = tuple[int, int]
Counts = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Settings:
    """How a participant makes the models of each arm; drift is measured against the window `recent`."""

    top: int
    windows: tuple[int, ...]
    recent: int
    choices: Mapping[Kind, Choice]

    @classmethod
    def of(cls, model: ModelConfig) -> "Settings":
        """Those for `model`, with the middle of each of its grids; the arm that is judged comes first.

        That is of two stages the retriever, and of a transformer the popularity that it comes on top of.
        """
        grids = (model.windows, model.shares, model.regularisations)
        days, share, regularisation = (sorted(grid)[(len(grid) - 1) // 2] for grid in grids)
        recent = model.windows.index(int(days))
        choices = [Choice("item_to_item", share, regularisation), Choice("popularity", share, recent)]
        told = choices[not model.sums_pairs :]
        return cls(model.top, model.windows, recent, {each.kind: each for each in told})


@dataclass(frozen=True)
class Learned:
    """A participant's models of one training, over the items that it has sold, ascending.

    `others` and `own` (catalogue,) are recent counts `at` the training, `popular` (items,) the scores made
    of them and of the own counts since.  `inverse` is in the order in which the items were first sold,
    `sold`, of which `order` is what makes it ascend.
    """

    sold: NDArray[np.int32]
    order: NDArray[np.int64]
    others: NDArray[np.int64]
    own: NDArray[np.int64]
    popular: NDArray[np.float32]
    at: int
    inverse: Inverse | None


class Rehearsal:
    """A participant's events in time, and the inverse of its X'X as of the last training."""

    def __init__(self, data: Interactions, settings: Settings, features: AsOfFeatures) -> None:
        self.settings, self.features = settings, features
        in_time = np.argsort(data.times, kind="stable")
        columns = (each[in_time] for each in (data.users, data.items, data.times))
        self.data = Interactions(*columns, data.user_count, data.item_count)
        first = np.sort(np.unique(self.data.items, return_index=True)[1])
        self.sold, self.sold_at = self.data.items[first], self.data.times[first]
        self.rows, self.queries = lru_cache(maxsize=2)(self._rows), lru_cache(maxsize=1)(self._queries)
        self.own_changes = lru_cache(maxsize=1)(self._own_changes)
        self.weighted, self.known = settings.choices.get("item_to_item"), 0
        if self.weighted is not None:
            self.inverse = incremental.untouched(len(self.sold), self.weighted.strength)

    def span(self, channel: Channel) -> tuple[int, int]:
        """When a fifth of the cohort's events have happened, and when the last did, in microseconds."""
        seconds = (self.data.times / 1e6).reshape(-1, 1)
        first, last = quantiles(channel, seconds, (BEGIN, 1.0), bits=40).values[0]
        return round(first) * 1_000_000, round(last) * 1_000_000

    def count(self, until: int, channel: Channel) -> Counts:
        """The cohort's counts of each item by `until`: in each window before it (windows, items), and all."""
        ever = np.bincount(self.between(0, until).items, minlength=self.data.item_count)
        own = np.stack([windowed_counts(self.data, until, days) for days in self.settings.windows])
        recent = channel.sum("recent", own.ravel(), COUNTS).reshape(own.shape)
        return recent, channel.sum("ever", ever, INTEGERS)

    def learn(self, window: Window, recent: NDArray[np.int64], everyone: Sequence["Rehearsal"]) -> Learned:
        """The models at the end of `window`, from those at its begin and all users who changed within it."""
        sold = self._sold(window[1])
        own, inverse = self._recent(window[1]), None
        if self.weighted is not None:
            share, counted = self.weighted.share, everyone if self.weighted.share else [self]
            changes = [self._changes(other, window, sold, share) for other in counted]
            whole = self.inverse[: len(sold), : len(sold)]
            incremental.update(whole, *(sparse.vstack(rows) for rows in zip(*changes, strict=True)))
            inverse, self.known = Inverse.of(whole, self.weighted.strength), len(sold)
        others = recent[int(self.settings.choices["popularity"].strength)] - own
        return self._learned(window[1], others, own, inverse, window[1])

    def refresh(self, learned: Learned, window: Window) -> Learned:
        """`learned` as of the begin of `window` brought to its end: the own follows, the others' stays."""
        inverse = learned.inverse and learned.inverse.after(*self.own_changes(window))
        return self._learned(window[1], learned.others, learned.own, inverse, learned.at)

    def describe(self, window: Window) -> NDArray[np.int64]:
        """The cells of the own events in `window` by the features as it began, (features, cells)."""
        new = self.between(*window)
        return feature_counts(store_features(self.features, STORE, new.users, new.items, window[0]))

    def judge(
        self,
        models: Mapping[int, tuple[Learned, Counts, NDArray[np.int64]]],
        window: Window,
        rng: np.random.Generator,
        channel: Channel,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], list[dict[str, float]]]:
        """How each model fares in `window`, over the cohort.

        `models` hold what the participant learned, the cohort's counts and what described the own newest
        events at that training.  Returns metric sums (models, arms, 8), bootstrap sums of NDCG (draws,
        models + 1), and each model's drift.
        """
        queries, arms = self.queries(window), self.settings.choices
        told = np.array(
            [
                [per_query(self._lists(learned, arm, queries, window), queries) for arm in arms]
                for learned, *_ in models.values()
            ]
        )
        sums = np.insert(told.sum(axis=2), told.shape[-1], len(queries), axis=2)
        draws = bootstrap_sums(told[:, 0, :, 0].T, rng, DRAWS)
        items, now, measured = self.between(*window).items, self.describe(window), self.settings.recent
        return (
            channel.sum("metrics", sums.ravel(), SUMS).reshape(sums.shape),
            channel.sum("bootstrap", draws.ravel(), SUMS).reshape(draws.shape),
            [
                drift(channel, items, (recent[measured], ever), np.stack([then, now]), f"drift/{at}")
                for at, (_, (recent, ever), then) in models.items()
            ],
        )

    def _lists(self, learned: Learned, arm: str, queries: Queries, window: Window) -> NDArray[np.int32]:
        items = learned.sold[learned.order]
        if not (len(items) and len(queries)):
            return np.full((len(queries), self.settings.top), -1, np.int32)
        if arm == "popularity":
            return top_popular(learned.popular, queries, items, self.data.item_count, self.settings.top)
        assert learned.inverse is not None
        inverse, history = learned.inverse, self.rows(window[0])[queries.users][:, learned.sold]

        def scores(rows: slice) -> NDArray[np.float32]:
            return inverse.scores(history[rows])[:, learned.order]

        return top_items(scores, queries, items, self.data.item_count, self.settings.top)

    def _learned(
        self,
        until: int,
        others: NDArray[np.int64],
        own: NDArray[np.int64],
        inverse: Inverse | None,
        at: int,
    ) -> Learned:
        sold, now = self._sold(until), self._recent(until)
        order = np.argsort(sold)
        left = left_of([self._recent_days], until - at)
        theirs = moved(others[None], own[None], now[None], left)[0]
        popular = blend(now, now + theirs, self.settings.choices["popularity"].share)[sold[order]]
        return Learned(sold, order, others, own, popular, at, inverse)

    def _sold(self, until: int) -> NDArray[np.int32]:
        return self.sold[: np.searchsorted(self.sold_at, until)]

    def _own_changes(self, window: Window) -> tuple[sparse.csr_array, ...]:
        """Rows of the own users who changed in `window`, over the items sold by its end."""
        before, after = (self.rows(moment)[:, self._sold(window[1])] for moment in window)
        return incremental.changed_rows(before, after)

    def _changes(
        self, other: "Rehearsal", window: Window, sold: NDArray[np.int32], share: float
    ) -> tuple[sparse.csr_array, ...]:
        """Rows over `sold` of `other`'s users who changed or had what is newly sold, weighted."""
        before, after = other.rows(window[0])[:, sold[: self.known]], other.rows(window[1])[:, sold]
        before.resize(after.shape)
        weight = 1.0 if other is self else share
        return tuple(rows * weight**0.5 for rows in incremental.changed_rows(before, after))

    def _recent(self, until: int) -> NDArray[np.int64]:
        return windowed_counts(self.data, until, self._recent_days)

    @property
    def _recent_days(self) -> int:
        return self.settings.windows[int(self.settings.choices["popularity"].strength)]

    def between(self, begin: int, end: int) -> Interactions:
        """The own events from `begin` to before `end`."""
        return self.data.where(slice(*np.searchsorted(self.data.times, (begin, end))))

    def _rows(self, until: int) -> sparse.csr_array:
        return self.between(0, until).matrix().astype(np.float64)

    def _queries(self, window: Window) -> Queries:
        """The users with a past who had something new in `window`."""
        upto = self.between(0, window[1])
        part = (upto.times >= window[0]).astype(np.int8)
        return Queries(**vars(splits.queries(upto.users, upto.items, part, 1)))
