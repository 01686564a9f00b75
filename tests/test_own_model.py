"""What is a participant's own is fresh in its recommender; what is the others' is of the training."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from federation.errors import BadInput
from federation.plan import RoundPlan
from federation.simulate import simulate
from flows.consortium import read_consortium
from recommenders import item_to_item, sequence, two_stage
from recommenders.attention import scores
from recommenders.bins import Bins, Column
from recommenders.boosting import State
from recommenders.choice import Choice
from recommenders.exploration import FEATURES, ExploreConfig
from recommenders.interpolation import Interpolated
from recommenders.popularity import DAY, windowed_counts
from recommenders.sequence import Reader, SequenceConfig
from recommenders.topk import top_popular
from tasks import comparison, own_model, recommending, tables, terms
from tasks.gathering import rehearsals
from tasks.room import Room

CUTS, LATER = ("2024-04-01", "2024-05-15"), ("2024-05-15", "2024-06-20")
TEST = 2
KINDS = {
    "popularity": Choice("popularity", 0.5, 1),
    "item_to_item": Choice("item_to_item", 0.5, 20.0),
    "two_stage": Choice("popularity", 0.5, 1),
    "sequence": Choice("popularity", 0.5, 1),
}


@pytest.fixture(params=KINDS)
def trained(request, tiny, tmp_path):
    """A consortium whose east has kept a model, as of the test of `CUTS`."""
    path = tiny("tiny")
    kind = f"kind: {request.param}, windows: [30, 90]"
    path.write_text(path.read_text().replace("kind: item_to_item", kind))
    consortium = read_consortium(path)
    rehearsals(tmp_path / "world", memberships := made(consortium), catalogue=False)
    catalogue = {"catalogue": tmp_path / "world" / "catalogue.txt"}
    rooms = {each.name: Room(tmp_path / each.name, each.model_copy(update=catalogue)) for each in memberships}
    versions = {name: room.import_all().version for name, room in rooms.items()}
    prepared = {name: room.prepared(versions[name], CUTS) for name, room in rooms.items()}
    room, east, channel = rooms["east"], prepared["east"], sums(rooms, prepared)
    known = terms.snapshot(room, east, TEST, channel, east.data.own_items())
    learned = {"two_stage": without_trees(), "sequence": untrained(east)}.get(request.param)
    own_model.keep(room, "first", known, KINDS[request.param], learned)
    told = {"rooms": rooms, "room": room, "prepared": prepared, "known": known, "channel": channel}
    return SimpleNamespace(**told, data=consortium.data)


def without_trees():
    columns = [Column(name=name, values=(0.0,)) for name in two_stage.names((30, 90))]
    common = State(objective="binary", bins=Bins(columns=columns), start=0.0, scale=1.0)
    return Interpolated(common=common, own=None, share=0.0)


def untrained(prepared):
    """Two networks that have learned nothing, of all items."""
    common, own = (sequence.initial(prepared.data.item_count, SequenceConfig(), seed) for seed in (7, 8))
    return Reader(common, own, 0.25)


def without_past(prepared, known):
    """Without the events before the test on the five items that the others have most of those had in it."""
    tested = np.unique(prepared.data.items[prepared.part == TEST])
    others = (known.total_counts - known.own_counts)[-1, tested]
    dropped = np.isin(prepared.data.items, tested[np.argsort(-others)[:5]]) & (prepared.part < TEST)
    data, (part, known_at) = prepared.data.where(~dropped), (prepared.part, prepared.known_at)
    return replace(prepared, data=data, part=part[~dropped], known_at=known_at[~dropped])


def made(consortium):
    from feature_store.world import generate

    generate(consortium.world, consortium.data, consortium.names)
    return consortium.memberships


def sums(rooms, prepared):
    """A channel that reads the sums of both rounds."""
    opened = {}

    def part(name, number, channel):
        terms.keep_terms(rooms[name], prepared[name], "first", number)
        terms.add_terms(rooms[name], "first", number, channel)

    def note(number, name, form, total):
        opened[f"{number}/{name}"] = form.decode(total.words)

    for number in (0, 1):
        parts = {name: partial(part, name, number) for name in rooms}
        plan = RoundPlan(run="first", number=number, cohort=tuple(rooms))
        simulate(parts, plan, on_opened=partial(note, number))
    return SimpleNamespace(read=opened.__getitem__)


def test_items_that_come_to_the_end_of_the_catalogue_leave_the_model(trained):
    room, catalogue = trained.room, trained.room.membership.catalogue
    model, known = own_model.kept(room, "first"), trained.known
    before = own_model.fresh_lists(room, model, trained.prepared["east"], TEST)
    user = trained.prepared["east"].user_ids[0].as_py()
    asked = recommending.recommend(room, "first", user, 3)
    catalogue.write_text(catalogue.read_text() + "new\nnewer\n")
    again = Room(room.home, room.membership)
    wider = again.prepared(again.version, CUTS)
    assert wider.data.item_count == known.total_counts.shape[1] + 2
    assert own_model.kept(again, "first") == model
    assert np.array_equal(own_model.fresh_lists(again, model, wider, TEST), before)
    assert recommending.recommend(again, "first", user, 3)["items"] == asked["items"]
    catalogue.write_text("other\n" + catalogue.read_text())
    assert own_model.kept(again, "first") is None


def served(room, model):
    folder = room.model("first") / "served" / model.served
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}


def test_at_the_training_what_is_fresh_is_what_was_trained(trained):
    room, known = trained.room, trained.known
    model = own_model.kept(room, "first")
    assert known.own_counts.any()
    assert known.total_counts.any()
    fresh = own_model.fresh(room, model, trained.prepared["east"], TEST, known.own_items)
    at_training = served(room, model)
    if model.model.kind == "popularity":
        expected = {"popularity": known.popular(1, 0.5)}
    elif model.model.kind == "sequence":
        reader = untrained(trained.prepared["east"]).of(known.own_items)
        expected = {"popularity": known.popular(1, 0.5), **reader.arrays()}
    elif model.model.kind == "item_to_item":
        expected = {"weights": known.weights(0.5, 20.0)}
    else:
        expected = two_stage.retriever(known, model.model.two_stage, model.model.windows)._asdict()
    expected["own_items"] = known.own_items
    assert fresh.keys() == at_training.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(fresh[name], array)
        assert np.array_equal(at_training[name], array)


def test_later_the_own_has_moved_on_and_the_others_has_not(trained):
    room, model = trained.room, own_model.kept(trained.room, "first")
    later = room.prepared(room.store.manifest("east").version, LATER)
    own_items = later.data.own_items()
    fresh = own_model.fresh(room, model, later, TEST, own_items)
    assert np.array_equal(fresh["own_items"], own_items)
    then, now = trained.prepared["east"].begins(TEST), later.begins(TEST)
    others = [each for name, each in trained.prepared.items() if name != "east"]

    def popular(days):
        """Own counts as of now, and the others' as of then, moved as the own have since, less what fades."""
        mine, before = (windowed_counts(later.data, at, days) for at in (now, then))
        theirs = sum(windowed_counts(each.data, then, days) for each in others)
        slope = np.cov(before, theirs, ddof=0)[0, 1] / (before.var() + 1)  # ridge: an event an item
        tastes = theirs.var() - theirs.mean()  # beyond chance
        explained = min(np.cov(before, theirs, ddof=0)[0, 1] ** 2 / (before.var() * tastes), 1.0)
        faded = min((now - then) / (days * DAY), 1) * explained * (theirs - slope * before)
        return mine, np.maximum(theirs + slope * (mine - before) - faded, 0)

    gram = item_to_item.own_gram(later.before(TEST), own_items)
    theirs = sum(item_to_item.own_gram(each.before(TEST), own_items) for each in others)
    if model.model.kind in ("popularity", "sequence"):
        mine, others_counts = popular(90)
        expected = {"popularity": (mine + 0.5 * others_counts)[own_items].astype(np.float32)}
    elif model.model.kind == "item_to_item":
        expected = {"weights": item_to_item.solve(gram + 0.5 * theirs, 20.0)}
    else:
        settings = model.model.two_stage
        mine, others_counts = map(np.stack, zip(*(popular(days) for days in (30, 90)), strict=True))
        expected = {"own_counts": mine, "total_counts": mine + others_counts}
        expected["own"] = item_to_item.solve(gram.astype(float), settings.regularisation)
        expected["shared"] = item_to_item.solve(gram + settings.share * theirs, settings.regularisation)
    for name, array in expected.items():
        assert fresh[name] == pytest.approx(array, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("trained", ["item_to_item", "two_stage"], indirect=True)
def test_the_own_is_known_where_the_sum_is_hidden(trained):
    room, prepared, known = trained.room, trained.prepared["east"], trained.known
    hiding = room.membership.model.model_copy(update={"hide_below": 4})
    secretive = Room(room.home, room.membership.model_copy(update={"model": hiding}))
    found = terms.snapshot(secretive, prepared, TEST, trained.channel, known.own_items)
    hidden = (known.total_gram < 4) & ~np.eye(len(known.own_items), dtype=bool)
    assert ((found.own_gram > 0) & hidden & (known.total_gram > found.own_gram)).any()
    assert np.array_equal(found.total_gram, np.where(hidden, known.own_gram, known.total_gram))


def test_what_is_first_had_later_is_in_no_list_of_now(trained):
    """Though all others have it: that it will be had here is not known yet."""
    room, prepared = trained.room, without_past(trained.prepared["east"], trained.known)
    later = np.setdiff1d(prepared.data.own_items(), prepared.sold(TEST))
    assert len(later) == 5
    if own_model.kept(room, "first").ranks:
        tables.keep_tables(room, prepared, "first", 1, trained.channel)
        listed = tables.read_table(room, "first", 1, tables.TOGETHER, TEST).items
    else:
        listed = comparison.champion_lists(room, "first", prepared, TEST)
    assert (listed >= 0).any()
    assert not np.isin(listed, later).any()


def test_a_model_that_cannot_be_read_is_not_held(trained):
    (trained.room.model("first") / "model.json").write_text('{"run": "first", "share": 0.5}')
    assert own_model.kept(trained.room, "first") is None


def test_a_damaged_model_is_not_held_and_what_is_served_of_it_is_named(trained):
    folder, model = trained.room.model("first"), own_model.kept(trained.room, "first")
    served_of = folder / "served" / "first" / "own_items.npy"
    served_of.write_bytes(served_of.read_bytes()[:-1])
    with pytest.raises(BadInput, match="served/first: found a damaged array"):
        own_model.served(trained.room, model)
    parts = [folder / "others" / "gram.npy"] + [folder / "ranker.json"] * model.ranks
    for path in parts + [folder / "networks" / "own-table.npy"] * model.reads:
        whole = path.read_bytes()
        path.write_bytes(b"")
        assert own_model.kept(trained.room, "first") is None
        path.write_bytes(whole)


def test_a_ranker_of_other_features_is_not_held(trained):
    path = trained.room.model("first") / "model.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"features": ["own_score"]}))
    assert (own_model.kept(trained.room, "first") is None) == told["ranks"]


def test_a_refresh_replaces_what_is_served_and_nothing_else(trained):
    room, model = trained.room, own_model.kept(trained.room, "first")
    others = {path: path.read_bytes() for path in (room.model("first") / "others").iterdir()}
    for name in ("second", "third"):
        arrays = {name: array + 1 for name, array in served(room, model).items()}
        own_model.serve(room, model, name, arrays)
        model = own_model.kept(room, "first")
        assert model.served == name
        assert all(np.array_equal(array, arrays[each]) for each, array in served(room, model).items())
    assert {each.name for each in (room.model("first") / "served").iterdir()} == {"second", "third"}
    assert others == {path: path.read_bytes() for path in (room.model("first") / "others").iterdir()}


@pytest.mark.parametrize("trained", ["sequence"], indirect=True)
def test_a_transformer_lists_what_may_be_listed_though_nobody_here_had_it(trained):
    """As `since` in the file of the items' content says of some; in tests they are listed, too."""
    room, east = trained.room, trained.prepared["east"]
    everything, had = np.arange(east.data.item_count, dtype=np.int32), east.data.own_items()
    assert len(had) < len(everything)
    known = terms.snapshot(room, east, TEST, trained.channel, everything)
    own_model.keep(room, "first", known, KINDS["sequence"], untrained(east))
    user, ids = east.user_ids[0].as_py(), room.membership.catalogue.read_text().split()
    seen = {ids[item] for item in east.data.items[east.data.users == 0]}
    assert {*recommending.recommend(room, "first", user, 1_000)["items"]} == {*ids} - seen


@pytest.mark.parametrize("trained", ["popularity"], indirect=True)
def test_a_recommendation_of_what_is_popular_knows_the_newest_own_events(trained):
    """Everybody at east buys one item after the training, which is then recommended to a new user first."""
    room = trained.room
    path = trained.data / "east.csv"
    table = pd.read_csv(path)
    last = pd.to_datetime(table["time"]).max()
    rare = table["item"].value_counts().index[-1]
    buyers = table["user"].dropna().unique()[:100]
    hours = [f"{last + pd.Timedelta(hours=hour + 1):%Y-%m-%dT%H:%M:%S}" for hour in range(101)]
    rows = {"user": [*buyers, "new"], "item": [*[rare] * 100, "unknown"], "time": hours, "rating": 5}
    before = recommending.recommend(room, "first", buyers[0], 3)
    pd.concat([table, pd.DataFrame(rows)]).to_csv(path, index=False)
    room.import_all()
    after = recommending.recommend(room, "first", "new", 3)
    assert rare not in before["items"]
    assert after["items"][0] == rare
    assert after["scores"][0] >= 100


@pytest.mark.parametrize("trained", ["two_stage"], indirect=True)
def test_who_has_had_everything_is_recommended_nothing(trained):
    room, path = trained.room, trained.data / "east.csv"
    table = pd.read_csv(path)
    everything = table.drop_duplicates("item").assign(user="all")
    pd.concat([table, everything]).to_csv(path, index=False)
    room.import_all()
    assert len(recommending.recommend(room, "first", table["user"].dropna()[0], 3)["items"]) == 3
    assert recommending.recommend(room, "first", "all", 3) == {"items": [], "scores": []}


@pytest.mark.parametrize("trained", ["sequence"], indirect=True)
def test_what_a_transformer_lists_for_a_user_follows_from_its_newest_events(trained):
    """By the common network, of own items, on top of popularity: as its lists for the test, item by item."""
    room, east = trained.room, trained.prepared["east"]
    user = int(east.data.users[-1])
    told = recommending.recommend(room, "first", east.user_ids[user].as_py(), 5)
    items = east.data.own_items()
    history = east.data.items[east.data.users == user][-50:]
    reader, places = untrained(east).of(items), np.searchsorted(items, history)[None, :]
    common, own = (scores(each, SequenceConfig().size, places)[0] for each in reader[:2])
    read = 0.75 * common + 0.25 * own
    at = int(east.data.times.max()) + 1
    mine = windowed_counts(east.data, at, 90)
    assert len(told["items"]) == 5
    catalogue = room.membership.catalogue.read_text().split("\n")
    for item, score in zip(told["items"], told["scores"], strict=True):
        place = int(np.flatnonzero(items == catalogue.index(item))[0])
        assert catalogue.index(item) not in history
        assert score - read[place] >= np.log1p(mine[items[place]]) - 1e-4  # others' popularity on top


@pytest.mark.parametrize("trained", ["sequence"], indirect=True)
def test_items_that_the_transformer_never_learned_are_listed_by_popularity(trained):
    east, items = trained.prepared["east"], np.arange(trained.known.total_counts.shape[1], dtype=np.int32)
    reader = untrained(east)
    later = reader._replace(
        common=reader.common.of(items + len(items)), own=reader.own.of(items + len(items))
    )
    popularity, queries = np.random.default_rng(0).permutation(len(items)), east.queries(TEST)
    found = sequence.lists(later, SequenceConfig(), east.before(TEST), items, popularity, queries, 5)
    assert np.array_equal(found, top_popular(popularity.astype(np.float32), queries, items, len(items), 5))


def test_a_list_of_every_kind_may_try_items_out(trained):
    """Its last places are for others of the model's candidates; what each is like lies between 0 and 1."""
    room, user = trained.room, trained.prepared["east"].user_ids[0].as_py()
    plain = recommending.recommend(room, "first", user, 8)
    explore = ExploreConfig(places=3, policy="linucb")
    trying = Room(room.home, room.membership.model_copy(update={"explore": explore}))
    told = recommending.recommend(trying, "first", user, 8)
    assert told["items"][:5] == plain["items"][:5]
    assert len({*told["items"]}) == 8
    (path,) = room.shown.glob("*/*.json")
    contexts = np.array(json.loads(path.read_text())["contexts"])
    assert contexts.shape == (8, len(FEATURES))
    assert (contexts >= 0).all()
    assert (contexts <= 1).all()
    assert (contexts[:, 2:6].max(axis=0) > 0).all()
