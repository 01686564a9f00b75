import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from feature_store.cleaning import CleaningRules
from feature_store.errors import BadData
from feature_store.importing import import_events
from feature_store.partitions import Store
from feature_store.sources import Source
from feature_store.world import World, generate
from feature_store.world_files import sources

NAMES = ("east", "harbour", "hill", "north", "south", "west")
SMALL = World(users=240, items=150, events=7200, days=60)
DEMO = Path(__file__).parent.parent / "examples" / "demo.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    generate(SMALL, folder, NAMES)
    return folder


@pytest.fixture(scope="module")
def imported(folder, tmp_path_factory):
    """Each shop's events and cleaning report."""
    store, found = Store(tmp_path_factory.mktemp("store")), {}
    for name, source in sources(NAMES).items():
        rules = CleaningRules(bot_events_per_hour=100)
        report = import_events(store, name, source.under(folder), rules).report
        found[name] = (store.events(name), report)
    return found


def test_every_shop_can_be_read_and_only_dirt_is_dropped(imported):
    for name, (events, report) in imported.items():
        assert report.bot > 250, name
        assert report.duplicate >= 1
        assert report.missing_id >= 2
        assert report.missing_time == report.missing_value == report.impossible_time == 0
        users = events["user"].combine_chunks().dictionary_decode()
        assert f"{name}-bot" not in users.unique().to_pylist()
        pairs = pa.table({"user": users, "item": events["item"].combine_chunks().dictionary_decode()})
        assert len(pairs.group_by(["user", "item"]).aggregate([])) == len(events)
        assert set(events["value"].to_pylist()) <= {1, 2, 3, 4, 5}


def test_shops_are_uneven_and_overlap(imported):
    sizes = np.array([len(events) for events, _ in imported.values()])
    assert 0.75 * SMALL.events < sizes.sum() < 1.25 * SMALL.events
    assert 0.3 < sizes[0] / sizes.sum() < 0.5
    assert sizes[-1] / sizes.sum() < 0.07
    items = [set(events["item"].unique().to_pylist()) for events, _ in imported.values()]
    assert all(len(each) <= 0.8 * SMALL.items for each in items)
    assert len(items[0] & items[1]) > 0.5 * min(len(items[0]), len(items[1]))


def test_the_truth_is_new_to_the_user_and_sold_by_the_shop(folder, imported):
    cut = cut_of(imported)
    for name, (events, _) in imported.items():
        truth = pq.read_table(folder / f"truth-{name}.parquet")
        assert truth.schema == pa.schema([("user", pa.string()), ("items", pa.list_(pa.string()))])
        before = events.filter(pc.less(events["event_time"].cast(pa.int64()), cut - 10**6))
        had = {}
        for user, item in zip(before["user"].to_pylist(), before["item"].to_pylist(), strict=True):
            had.setdefault(user, set()).add(item)
        for user, items in zip(truth["user"].to_pylist(), truth["items"].to_pylist(), strict=True):
            assert len(set(items)) == len(items) <= 50
            assert not had.get(user, set()) & set(items)


def test_the_truth_foresees_more_than_popularity(folder, imported):
    cut, hits = cut_of(imported), np.zeros(2)
    for name, (events, _) in imported.items():
        truth = pq.read_table(folder / f"truth-{name}.parquet")
        best = dict(zip(truth["user"].to_pylist(), truth["items"].to_pylist(), strict=True))
        late = pc.greater_equal(events["event_time"].cast(pa.int64()), cut)
        counts = events.filter(pc.invert(late))["item"].value_counts().to_pylist()
        ranked = sorted(counts, key=lambda each: -each["counts"])[:10]
        popular = {each["values"] for each in ranked}
        taken = events.filter(late)
        for user, item in zip(taken["user"].to_pylist(), taken["item"].to_pylist(), strict=True):
            hits += item in best[user][:10], item in popular
    assert hits[0] > 1.5 * hits[1]


def cut_of(imported):
    times = [events["event_time"].cast(pa.int64()).to_numpy() for events, _ in imported.values()]
    return np.quantile(np.concatenate(times), 0.9)


def test_the_same_world_is_the_same_bytes(folder, tmp_path):
    generate(SMALL, tmp_path, NAMES[::-1])
    assert content(tmp_path) == content(folder)
    assert len(content(folder)) == 13


def test_a_world_that_is_there_is_left_alone_and_another_replaces_it(tmp_path):
    world, names = World(shops=1, users=10, items=20, events=100, days=10), ["only"]
    generate(world, tmp_path, names)
    first = content(tmp_path)
    (tmp_path / "only.csv").write_text("mine")
    generate(world, tmp_path, names)
    assert (tmp_path / "only.csv").read_text() == "mine"
    (tmp_path / "world.json").unlink()  # as after a crash
    generate(world, tmp_path, names)
    assert content(tmp_path) == first
    generate(world.model_copy(update={"seed": 1}), tmp_path, names)
    assert content(tmp_path)["only.csv"] != first["only.csv"]
    assert json.loads((tmp_path / "world.json").read_text())["world"]["seed"] == 1


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("drift", ["none", "sudden"])
def test_drift_changes_what_happens(folder, tmp_path, drift):
    generate(SMALL.model_copy(update={"drift": drift}), tmp_path, NAMES)
    assert content(tmp_path)["east.csv"] != content(folder)["east.csv"]


def test_a_turn_of_nothing_is_no_drift_and_a_later_one_another(tmp_path):
    found = []
    for number, drift in enumerate(
        ({"drift": "none"}, {"turn": 0.0}, {"turn": 1.0}, {"turn": 1.0, "turn_at": 0.9}, {"new_items": 0.0})
    ):
        generate(SMALL.model_copy(update={"drift": "sudden", **drift}), tmp_path / str(number), NAMES)
        found.append(content(tmp_path / str(number))["east.csv"])
    assert found[0] == found[1]
    assert len(set(found)) == 4


def test_names_must_be_as_many_as_shops(tmp_path):
    with pytest.raises(BadData, match="expected 6 different"):
        generate(SMALL, tmp_path, NAMES[:5])
    with pytest.raises(ValidationError):
        World(drift="wild")


def test_the_demo_reads_what_is_generated():
    demo = yaml.safe_load(DEMO.read_text())
    found = {each["name"]: Source.model_validate(each["events"]) for each in demo["participants"]}
    assert found == sources(NAMES)
    assert World.model_validate(demo["world"]) == World()
    assert [each["reachable"] for each in demo["participants"]] == [f"truth-{name}.parquet" for name in NAMES]
