"""Candidates, features and lists against loops that are plainly right; the moments against pooled times."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from feature_store.splits import TemporalSplit, queries
from federation.channel import Solo
from federation.plan import RoundPlan
from federation.simulate import simulate
from recommenders import two_stage
from recommenders.boosting import Rows, State
from recommenders.candidates import candidates
from recommenders.interactions import Interactions
from recommenders.interpolation import Interpolated
from recommenders.item_to_item import own_gram
from recommenders.metrics import Queries, relevant_to
from recommenders.popularity import returning, windowed_counts
from recommenders.query_rows import Labelled, ordered, training_rows
from recommenders.snapshot import Snapshot
from recommenders.two_stage import TwoStage
from tasks import ranking
from tasks.model import ModelConfig
from tasks.moments import moments
from tasks.ranking import Grower, ranked, share_by
from tasks.tables import Table, teaching

DAY = 86_400_000_000


def world(seed, users=30, items=20, events=200):
    r = np.random.default_rng(seed)
    data = Interactions(
        r.integers(0, users, events).astype(np.int32),
        r.choice(items, events, p=np.arange(1, items + 1) / np.arange(1, items + 1).sum()).astype(np.int32),
        np.sort(r.integers(0, 100 * DAY, events)),
        users,
        items,
    )
    part = (data.times >= 70 * DAY).astype(np.int8)
    asked = Queries(**vars(queries(data.users, data.items, part, 1)))
    return data.where(part == 0), asked, r


def lists_of(scores, seen, many):
    """The best `many` of positive scores, the lower index first among equals."""
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item))
    return [item for item in order if item not in seen][:many]


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_candidates_are_the_union_of_what_each_source_lists(seed):
    data, asked, r = world(seed)
    own = np.unique(data.items)
    table = {name: np.round(r.normal(size=(len(asked), len(own))), 1).astype(np.float32) for name in "ab"}
    constant = np.round(r.normal(size=len(own)), 1).astype(np.float32)
    table["c"] = np.tile(constant, (len(asked), 1))
    found = candidates([*(table[name].__getitem__ for name in "ab"), constant], asked, own, 20, 4)
    place = 0
    for query in range(len(asked)):
        seen = set(asked.seen_items[asked.seen_starts[query] : asked.seen_starts[query + 1]].tolist())
        hidden = {column for column, item in enumerate(own) if item in seen}
        lists = {name: lists_of(table[name][query], hidden, 4) for name in "abc"}
        lists = {name: [c for c in each if table[name][query, c] > 0] for name, each in lists.items()}
        union = sorted({column for each in lists.values() for column in each})
        assert found.sizes[query] == len(union)
        for column in union:
            assert found.items[place] == own[column]
            for source, name in enumerate("abc"):
                assert found.scores[place, source] == table[name][query, column]
                expected = lists[name].index(column) if column in lists[name] else np.nan
                np.testing.assert_equal(found.places[place, source], np.float32(expected))
            place += 1
    assert place == len(found.items)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_lists_by_score_are_those_of_a_loop(seed, k):
    r = np.random.default_rng(seed)
    sizes = r.integers(0, 8, 6)
    items = np.concatenate([np.sort(r.choice(50, size, replace=False)) for size in sizes]).astype(np.int32)
    scores = np.round(r.normal(size=len(items)), 1)
    top, start = ordered(items, sizes, scores, k), 0
    for query, size in enumerate(sizes):
        pairs = sorted(zip(-scores[start : start + size], items[start : start + size], strict=True))
        expected = [item for _, item in pairs][:k]
        assert top[query].tolist() == expected + [-1] * (k - len(expected))
        start += size


def test_labels_are_what_turned_out_to_be_relevant():
    data, asked, _ = world(3)
    ones = np.ones((len(asked), data.item_count), np.float32)
    found = candidates([ones.__getitem__], asked, np.arange(20, dtype=np.int32), 20, 20)
    relevant = [
        set(asked.relevant_items[asked.relevant_starts[q] : asked.relevant_starts[q + 1]].tolist())
        for q in range(len(asked))
    ]
    expected = [item in relevant[query] for query, item in zip(found.queries, found.items, strict=True)]
    assert relevant_to(asked, found.queries, found.items).tolist() == expected
    assert sum(expected) == len(asked.relevant_items)


def test_features_are_named_and_alone_is_as_if_nobody_else_were_there():
    data, asked, r = world(5)
    own = np.unique(data.items).astype(np.int32)
    counts = np.stack([np.bincount(data.items, minlength=20)] * 2)
    others = r.integers(0, 9, counts.shape)
    gram = own_gram(data, own)
    more = sparse.random(len(own), len(own), 0.5, random_state=1).toarray()
    known = Snapshot(data, 70 * DAY, own, counts, counts + others, gram, gram + np.rint(9 * (more + more.T)))
    found = two_stage.retriever(known, TwoStage(), (30, 90))
    apart = two_stage.alone(known, found)
    lonely = two_stage.retriever(known.alone(), TwoStage(), (30, 90))
    for ours, theirs in zip(apart, lonely, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    had = two_stage.lately(found, data, asked.users, TwoStage())
    assert had.shape == (len(asked), 0)
    listed = candidates(two_stage.sources(found, known.history(asked.users), had), asked, own, 20, 5)
    store = r.normal(size=(len(listed.items), len(two_stage.STORE)))
    store[:2, -1] = 1e300, np.nan
    table = two_stage.features(found, listed, store, had)
    names = two_stage.names((30, 90))
    assert table.shape == (len(listed.items), len(names))
    column = dict(zip(names, table.T, strict=True))
    share = 1e4 * (counts + others)[1][listed.items] / (counts + others)[1].sum()
    np.testing.assert_allclose(column["overall_popularity_90d"], share, rtol=1e-6)
    again = windowed_counts(returning(data), 70 * DAY, 90)
    share = 1e4 * again[listed.items] / again.sum()
    np.testing.assert_allclose(column["returning_popularity_90d"], share, rtol=1e-6)
    lately = np.bincount(data.items[data.times >= 56 * DAY], minlength=20)[listed.items]
    assert lately.any()
    np.testing.assert_array_equal(column["last_14_days"] > 0, lately > 0)
    likes = np.array([sum(known.cosines[:, item] * counts[1, own]) for item in range(len(own))])
    share = 1e4 * likes[np.searchsorted(own, listed.items)] / likes.sum()
    np.testing.assert_allclose(column["inherited_popularity_90d"], share, rtol=1e-5)
    for query in range(len(asked)):
        mine = np.flatnonzero(listed.queries == query)
        best = sorted(mine, key=lambda row: (-column["shared_score"][row], listed.items[row]))
        assert [column["shared_score_place"][row] for row in best] == list(range(len(mine)))
    np.testing.assert_array_equal(column["lists"], (~np.isnan(listed.places)).sum(axis=1))
    store[0, -1] = np.finfo(np.float32).max
    np.testing.assert_array_equal(column["item_mean_value"], store[:, -1].astype(np.float32))


def test_only_queries_with_a_relevant_candidate_teach_by_what_a_hit_brings():
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    rows = training_rows(
        [
            Labelled(values, np.array([0, 1, 0, 0, 0, 1], bool), np.array([2, 3, 1]), np.array([1, 4, 3])),
            Labelled(values[:1], np.zeros(1, bool), np.array([1]), np.array([1])),
        ],
        k=2,
    )
    assert isinstance(rows, Rows)
    assert rows.queries.tolist() == [2, 1]
    assert rows.features.tolist() == [[0, 1], [2, 3], [10, 11]]
    assert rows.labels.tolist() == [0, 1, 1]
    assert rows.weights == pytest.approx([1, 1, 1 / (1 + 1 / np.log2(3))])


@pytest.mark.parametrize("objective", ["binary", "lambdarank"])
def test_a_ranker_grows_by_every_objective_that_orders(objective, monkeypatch):
    r = np.random.default_rng(4)
    model = ModelConfig.model_validate(
        {"two_stage": {"boosting": {"objective": objective, "trees": 2, "min_data_in_leaf": 5}}}
    )
    asked, many = 40, 5
    labels = np.tile(np.arange(many) == 0, asked)
    features = r.normal(size=(asked * many, len(two_stage.names(model.windows)))).astype(np.float32)
    features[labels, 0] += 3
    table = Table(
        np.full(asked, many), features, np.tile(np.arange(many, dtype=np.int32), asked), labels,
        np.arange(asked + 1), np.zeros(asked, np.int32),
    )  # fmt: skip
    grower = Grower(teaching([table], model), model)
    first, state = (grower.grow(Solo(), None, trees) for trees in (1, 2))
    monkeypatch.delattr(ranking, "binned")  # in a later step it is done
    assert grower.grow(Solo(), State.model_validate(first.model_dump()), 1) == state
    assert (ranked(table, state, 1)[:, 0] == 0).mean() > 0.8
    asked, scores = [], State.scores
    monkeypatch.setattr(State, "scores", lambda *given: asked.append(given) or scores(*given))
    assert share_by(Interpolated(common=state, own=state, share=0.5), table, model).share == 0.25
    assert len(asked) == 2  # the consortium's and the own, whatever the number of shares


@pytest.mark.parametrize(("weighting", "expected"), [("rows", [1, 1, 1, 1]), ("quality", [0.5, 0.5, 1, 1])])
def test_rows_weigh_by_the_quality_of_their_organisations_data(weighting, expected):
    model = ModelConfig.model_validate({"two_stage": {"weighting": weighting}})
    features = np.zeros((2, len(two_stage.names(model.windows))), np.float32)
    asked = [2], features, np.arange(2, dtype=np.int32), np.array([True, False]), [0, 1], [0]
    tables = [Table(*map(np.array, asked), quality=each) for each in (0.5, 1.0)]
    assert teaching(tables, model).weights.tolist() == expected


def test_lambdarank_takes_no_quality():
    with pytest.raises(ValueError, match=r"weighting: found quality with boosting\.objective"):
        TwoStage.model_validate({"weighting": "quality", "boosting": {"objective": "lambdarank"}})


def test_the_ranker_keeps_its_defaults_beside_what_is_given():
    given = TwoStage.model_validate({"boosting": {"trees": 7}}).boosting
    assert (given.trees, given.objective, given.max_bin) == (7, "binary", TwoStage().boosting.max_bin)


@pytest.mark.parametrize("cuts", [None, ("1970-03-01", "1970-03-11")])
def test_windows_hold_as_many_events_as_validation(cuts):
    r = np.random.default_rng(1)
    parts = {
        name: np.sort(r.integers(0, 100 * 86_400, size)) * 1.0
        for name, size in zip("abc", (500, 90, 7), strict=True)
    }
    split = TemporalSplit(cuts=cuts)
    plan = RoundPlan(run="r", number=0, cohort=tuple(parts))
    told = simulate(
        {name: lambda channel, mine=mine: moments(channel, mine, split, 2) for name, mine in parts.items()},
        plan,
    )
    pooled = np.concatenate([*parts.values()])
    assert told["a"] == told["b"] == told["c"] == moments(Solo(), pooled, split, 2)
    sizes = np.diff(np.searchsorted(np.sort(pooled), told["a"]))
    assert len(sizes) == 3
    assert np.ptp(sizes) <= 0.02 * len(pooled)
    if cuts:
        assert told["a"][-2:] == [59 * 86_400, 69 * 86_400]
    assert moments(Solo(), np.zeros(0), TemporalSplit(), 2) == []
