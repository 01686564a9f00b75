"""What is shown stays with the participant; what came of it is summed, and is the policy of the next list."""

import json
import os
import shutil
import stat
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from feature_store.world import generate
from federation.errors import BadInput
from federation.files import write_json
from federation.plan import RoundPlan
from federation.simulate import simulate
from flows.consortium import read_consortium
from recommenders import exploration
from recommenders.choice import Choice
from recommenders.exploration import FEATURES, ExploreConfig
from recommenders.interactions import Interactions, taken
from recommenders.popularity import DAY
from tasks import exploring, own_model, recommending, terms
from tasks.exploring import Shown
from tasks.gathering import rehearsals
from tasks.opening import _created_at
from tasks.room import Room
from tasks.runs import RunFolder

CUTS, TEST = ("2024-04-01", "2024-05-15"), 2
EXPLORE = "explore: {places: 3, policy: linucb, window_days: 7}"
PLACES = 3


@st.composite
def events(draw):
    """Events of few users and items, and pairs that are asked about."""
    columns = [
        draw(arrays(np.int64, (3, draw(st.integers(0, 25))), elements=st.integers(0, 3))) for _ in range(2)
    ]
    (users, items, times), asked = columns
    data = Interactions(users.astype(np.int32), items.astype(np.int32), times, 4, 4)
    return data, *asked[:2].astype(np.int32), asked[2]


@given(events(), st.integers(0, 3))
def test_what_was_had_is_a_reward_within_its_window_only(case, window):
    data, users, items, at = case
    had = [*zip(data.users, data.items, data.times, strict=True)]
    expected = [
        any((u, i) == (user, item) and moment <= t <= moment + window for u, i, t in had)
        for user, item, moment in zip(users, items, at, strict=True)
    ]
    assert taken(data, users, items, at, window).tolist() == expected


@pytest.fixture
def trained(tiny, tmp_path):
    """Rooms of a tiny consortium that explores, each with a model of popularity of a run `first`."""
    path = tiny("tiny", EXPLORE)
    path.write_text(path.read_text().replace("kind: item_to_item", "kind: popularity, windows: [30, 90]"))
    consortium = read_consortium(path)
    generate(consortium.world, consortium.data, consortium.names)
    rehearsals(tmp_path / "world", consortium.memberships, catalogue=False)
    more = {"catalogue": tmp_path / "world" / "catalogue.txt"}
    rooms = {
        each.name: Room(tmp_path / each.name, each.model_copy(update=more)) for each in consortium.memberships
    }
    prepared = {name: room.prepared(room.import_all().version, CUTS) for name, room in rooms.items()}
    return SimpleNamespace(rooms=rooms, prepared=prepared, path=path)


def show(trained, name, lists, seed):
    """Lists that were shown in the last days of the history: half of their items were had soon after."""
    room, data = trained.rooms[name], trained.prepared[name]
    rng, ids = np.random.default_rng(seed), room.membership.catalogue.read_text().split()
    rows = rng.integers(0, len(data.data.users), lists)
    shown = []
    for row in rows:
        contexts = rng.integers(0, 257, (2, len(FEATURES))) / 256
        contexts[:, 0] = 1
        items = [ids[data.data.items[row]], ids[rng.integers(len(ids))]]
        at, user = int(data.data.times[row]) - DAY // 2, data.user_ids[int(data.data.users[row])].as_py()
        shown.append(Shown(user=user, at=at, items=items, contexts=contexts.tolist()))
        write_json(room.shown / str(at // DAY) / f"{at}-{len(shown)}.json", shown[-1].model_dump())
    return shown


def labelled(trained, name, shown):
    """Contexts and rewards of what was shown, looked up one by one in the participant's events."""
    data, ids = trained.prepared[name], trained.rooms[name].membership.catalogue.read_text().split()
    users = data.user_ids.take(data.data.users).to_pylist()
    had = [*zip(users, (ids[item] for item in data.data.items), data.data.times.tolist(), strict=True)]
    last, rows, rewards = data.data.times.max(), [], []
    for each in shown:
        if each.at + 7 * DAY <= last:
            rows += each.contexts
            own = [(item, t - each.at) for user, item, t in had if user == each.user]
            rewards += [any(item == i and 0 <= t <= 7 * DAY for i, t in own) for item in each.items]
    return np.array(rows).reshape(-1, len(FEATURES)), np.array(rewards, bool)


def summed(trained, run="first"):
    """Both rounds' sums, opened; each then keeps a model of `run`.  Returns what was opened, by name."""
    opened = {}

    def part(name, number, channel):
        terms.keep_terms(trained.rooms[name], trained.prepared[name], run, number)
        terms.add_terms(trained.rooms[name], run, number, channel)

    def note(number, name, form, total):
        opened[f"{number}/{name}"] = form.decode(total.words)

    for number in (0, 1):
        parts = {name: partial(part, name, number) for name in trained.rooms}
        plan = RoundPlan(run=run, number=number, cohort=tuple(trained.rooms))
        simulate(parts, plan, on_opened=partial(note, number))
    channel = SimpleNamespace(read=opened.__getitem__)
    for name, room in trained.rooms.items():
        own = trained.prepared[name]
        known = terms.snapshot(room, own, TEST, channel, own.data.own_items())
        own_model.keep(room, run, known, Choice("popularity", 0.5, 1), None)
        exploring.keep_opened(room, run, channel)
    return opened


def test_the_opened_sum_is_that_of_everybodys_impressions(trained):
    shown = {name: show(trained, name, 20, seed) for seed, name in enumerate(trained.rooms)}
    opened = summed(trained)
    found = [labelled(trained, name, lists) for name, lists in shown.items()]
    rows, rewards = (np.concatenate(each) for each in zip(*found, strict=True))
    assert 60 < len(rows) <= 120
    assert 0.3 < rewards.mean() < 0.8
    np.testing.assert_array_equal(opened["0/exploration/statistics"], exploration.statistics(rows, rewards))
    for room in trained.rooms.values():
        np.testing.assert_array_equal(exploring.newest(room), opened["0/exploration/statistics"])
    assert not [name for name in opened if name.startswith("1/exploration")]


def test_what_is_told_of_users_or_items_that_are_not_known_is_left_out(trained):
    shown = {name: show(trained, name, 5, seed) for seed, name in enumerate(trained.rooms)}
    expected = summed(trained)["0/exploration/statistics"]
    one = shown["east"][0]
    for number, change in enumerate(
        ({"user": "nobody"}, {"items": ("no", "none")}, {"features": FEATURES[::-1]})
    ):
        other = one.model_copy(update=change)
        write_json(trained.rooms["east"].shown / "1" / f"{number}.json", other.model_dump())
    np.testing.assert_array_equal(summed(trained, "second")["0/exploration/statistics"], expected)


def test_nothing_is_opened_where_fewer_than_the_minimum_have_shown_something(trained):
    for seed, name in enumerate(("east", "north")):
        show(trained, name, 5, seed)
    opened = summed(trained)
    assert opened["0/exploration/held"].tolist() == [2]
    assert "0/exploration/statistics" not in opened
    assert {exploring.newest(room) for room in trained.rooms.values()} == {None}


def test_a_list_s_last_places_are_what_the_policy_finds_worth_trying_and_it_is_kept(trained):
    for seed, name in enumerate(trained.rooms):
        show(trained, name, 20, seed)
    summed(trained)
    room, data = trained.rooms["east"], trained.prepared["east"]
    user = data.user_ids[int(data.data.users[0])].as_py()
    before = {*room.shown.glob("*/*.json")}
    told = recommending.recommend(room, "first", user, 10)
    (path,) = {*room.shown.glob("*/*.json")} - before
    plain = Room(room.home, room.membership.model_copy(update={"explore": ExploreConfig()}))
    everything = recommending.recommend(plain, "first", user, 1_000)
    assert {*room.shown.glob("*/*.json")} - before == {path}  # who does not explore keeps nothing
    assert told["items"][:-PLACES] == everything["items"][: 10 - PLACES]
    scores = dict(zip(everything["items"], everything["scores"], strict=True))
    assert told["scores"] == [scores[item] for item in told["items"]]
    kept = json.loads(path.read_text())
    assert (kept["user"], kept["items"]) == (user, told["items"])
    assert abs(kept["at"] - time.time() * 1e6) < 60e6
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    known, config = exploration.policy(exploring.newest(room)), room.membership.explore
    worth = exploration.worth(known, np.array(kept["contexts"]), config, np.random.default_rng())
    assert (np.diff(worth[-PLACES:]) <= 0).all()
    place = {item: 1 / np.log2(rank + 2) for rank, item in enumerate(everything["items"])}
    found = np.array(kept["contexts"])[:, FEATURES.index("place")]
    np.testing.assert_allclose(found, [place[item] for item in kept["items"]], atol=1 / 512)


def test_the_newest_run_s_policy_counts(trained):
    for seed, name in enumerate(trained.rooms):
        show(trained, name, 5, seed)
    summed(trained)
    for seed, name in enumerate(trained.rooms, 10):
        show(trained, name, 5, seed)
    opened = summed(trained, "a-later-one")["0/exploration/statistics"]
    room = trained.rooms["east"]
    assert np.array_equal(exploring.newest(room), opened)
    path = room.model("first") / "exploration.json"
    os.utime(path)
    assert exploring.newest(room)[0] < opened[0]
    path.write_text("{")
    with pytest.raises(BadInput, match=r"first/exploration.json: found no such JSON"):
        exploring.newest(room)


def test_a_damaged_file_of_what_was_shown_is_named_without_what_it_says(trained):
    room = trained.rooms["east"]
    show(trained, "east", 1, 0)
    (path,) = room.shown.glob("*/*.json")
    path.write_text(path.read_text().replace('"at": ', '"at": "secret", "when": '))
    with pytest.raises(BadInput, match=rf"^{path}: found no such JSON") as told:
        terms.keep_terms(room, trained.prepared["east"], "first", 0)
    assert "secret" not in str(told.value)
    assert "east-" not in str(told.value).replace(str(path), "")


@pytest.mark.parametrize("contexts", [[], [[1.0] * len(FEATURES)], [[1.0], [1.0]]])
def test_a_list_without_a_whole_context_for_each_of_its_items_is_damaged(trained, contexts):
    room = trained.rooms["east"]
    show(trained, "east", 1, 0)
    (path,) = room.shown.glob("*/*.json")
    write_json(path, json.loads(path.read_text()) | {"contexts": contexts})
    with pytest.raises(BadInput, match=rf"^{path}: .* expected all features of each of 2 items"):
        terms.keep_terms(room, trained.prepared["east"], "first", 0)


def test_a_sum_of_too_few_numbers_is_damaged(trained):
    for seed, name in enumerate(trained.rooms):
        show(trained, name, 5, seed)
    summed(trained)
    path = trained.rooms["east"].model("first") / "exploration.json"
    write_json(path, json.loads(path.read_text()) | {"statistics": [1.0, 2.0]})
    with pytest.raises(BadInput, match=r"first/exploration\.json: .* found 2 numbers, expected 35"):
        exploring.newest(trained.rooms["east"])


def test_what_was_shown_too_long_ago_is_dropped(trained):
    room = trained.rooms["east"]
    for day, age in (("1", 91), ("2", 89)):
        (room.shown / day).mkdir(parents=True)
        os.utime(room.shown / day, (time.time() - age * 86_400,) * 2)
    room.forget("first")
    assert [each.name for each in room.shown.iterdir()] == ["2"]
    os.utime(room.shown / "2", (0, 0))
    assert room.tidy(["first"]) == 1


def test_a_training_counts_only_what_was_shown_of_late(trained):
    """Though nothing has dropped the rest since the training before."""
    for seed, name in enumerate(trained.rooms):
        show(trained, name, 5, seed)
    expected = summed(trained)["0/exploration/statistics"]
    room = trained.rooms["east"]
    (path, *_) = room.shown.glob("*/*.json")
    shutil.copytree(path.parent, room.shown / "1")
    os.utime(room.shown / "1", (time.time() - 91 * 86_400,) * 2)
    np.testing.assert_array_equal(summed(trained, "second")["0/exploration/statistics"], expected)
    assert not (room.shown / "1").exists()


def test_all_explore_alike(tiny):
    own = read_consortium(tiny("tiny", EXPLORE)).memberships[0]
    other = read_consortium(tiny("tiny")).memberships[0]
    with pytest.raises(BadInput, match=r"explore\.places: 0, the coordinator's 3"):
        other.require_agreed(own.agreed)


def test_a_run_goes_on_only_with_the_exploration_of_its_beginning(tiny, tmp_path):
    own, other = (read_consortium(tiny("tiny", more)).settings() for more in (EXPLORE, ""))
    folder = RunFolder(tmp_path / "coordinator" / "runs" / "r")
    folder.note(fingerprint=own.fingerprint, created_at="2024")
    assert _created_at(folder, own) == "2024"
    with pytest.raises(BadInput, match=r"run 'r': .* explore .* have changed, or the version of chorus has"):
        _created_at(folder, other)


def test_without_times_nothing_could_be_learned(tiny):
    path = tiny("tiny", EXPLORE + "\nsplit: {kind: leave-last-out}")
    path.write_text(path.read_text().replace(", time: time}", "}"))
    with pytest.raises(BadInput, match=r"east\.events\.columns\.time: found none.* by which explore\.places"):
        read_consortium(path)
