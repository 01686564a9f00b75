"""Exploration through the pipeline: real processes show lists, and a training learns from them."""

import json

import numpy as np
import pandas as pd
import pytest
from small import Small

from recommenders.exploration import counts, statistics

pytestmark = pytest.mark.slow

FILE = """
name: small
state: {state}
participants:
  - {{name: east, events: {{path: east.csv, columns: &columns {{user: user, item: item, time: time}}}}}}
  - {{name: north, events: {{path: north.csv, columns: *columns}}}}
  - {{name: south, events: {{path: south.csv, columns: *columns}}}}
model: {{kind: popularity, windows: [7, 30]}}
explore: {{places: 3, policy: linucb, window_days: 0.04}}
"""
NAMES, ITEMS, ASKED = ("east", "north", "south"), 60, 1
SOON, LATER = pd.Timedelta(minutes=20), pd.Timedelta(hours=2)


def events(place, now):
    """Sixty days of a shop: a few items sell much, and the later ones have come out later."""
    rng, rows = np.random.default_rng(place), []
    for user in range(80):
        for day in rng.integers(1, 60, 8):
            out = ITEMS - int(day) // 2
            rows.append((f"{NAMES[place]}-{user}", f"item-{int(out * rng.random() ** 3):02}", day))
    table = pd.DataFrame(rows, columns=["user", "item", "time"])
    return table.assign(time=now - pd.to_timedelta(table["time"], unit="D")).drop_duplicates(["user", "item"])


class Shops(Small):
    """The consortium, its lists and what its users have."""

    def set_up(self):
        self.path = self.folder / "small.yaml"
        self.path.write_text(FILE.format(state=self.folder / "state"))
        for place, name in enumerate(NAMES):
            events(place, pd.Timestamp.now("UTC").tz_localize(None)).to_csv(
                self.folder / f"{name}.csv", index=False
            )

    def shown(self, name):
        """The lists that the participant has kept, in the order in which they were shown."""
        paths = sorted((self.home / "participants" / name / "shown").glob("*/*.json"))
        return [json.loads(path.read_text()) for path in paths]

    def recommend(self, name, user):
        asked = "--participant", name, "--user", f"{name}-{user}", "--json", "list.json"
        self.chorus("recommend", self.path, *asked)
        return json.loads((self.folder / "list.json").read_text())["items"]

    def buy(self, name):
        """Each user who was shown a list soon has its second item; later somebody else comes."""
        with (self.folder / f"{name}.csv").open("a") as file:
            for each in self.shown(name):
                at = pd.Timestamp(each["at"], unit="us")
                file.write(f"{each['user']},{each['items'][1]},{at + SOON}\n")
                file.write(f"{name}-later,{each['items'][0]},{at + LATER}\n")

    def policies(self, name):
        return [*(self.home / "participants" / name / "models").glob("*/exploration.json")]


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    """After a training, some lists at each shop, and another training."""
    shops = Shops(tmp_path_factory.mktemp("explored"))
    shops.set_up()
    shops.begun = shops.chorus("run", shops.path)
    shops.first = {name: [shops.recommend(name, user) for user in range(ASKED)] for name in NAMES}
    shops.before = {name: shops.policies(name) for name in NAMES}
    for name in NAMES:
        shops.buy(name)
    shops.done = shops.chorus("run", shops.path)
    return shops


def test_what_is_shown_is_kept_by_the_participant_alone(shops):
    for name in NAMES:
        kept = shops.shown(name)
        assert [each["items"] for each in kept] == shops.first[name]
        assert [each["user"] for each in kept] == [f"{name}-{user}" for user in range(ASKED)]
    told = [path for path in shops.home.rglob("*") if "shown" in path.parts and path.is_file()]
    assert len(told) == ASKED * len(NAMES)
    assert {path.relative_to(shops.home).parts[2] for path in told} == {"shown"}
    assert not {name: found for name, found in shops.before.items() if found}


def test_a_later_training_opens_what_came_of_it(shops):
    """Of everybody, by whoever looks: of each list's items the second was had."""
    kept = [each for name in NAMES for each in shops.shown(name)]
    rows = np.array([context for each in kept for context in each["contexts"]])
    rewards = np.array([place == 1 for each in kept for place in range(len(each["items"]))])
    for name in NAMES:
        (path,) = shops.policies(name)
        found = np.array(json.loads(path.read_text())["statistics"])
        np.testing.assert_array_equal(found, statistics(rows, rewards))
    assert counts(found) == (10 * ASKED * len(NAMES), ASKED * len(NAMES))
    assert "exploration: of 30 items that were shown 3 were had (10.0%)" in shops.done.stderr
    assert "0 participants have shown something that is 0.04 days old, expected 3" in shops.begun.stderr


def test_the_policy_changes_the_next_list(shops):
    """What is tried is another where nothing is known of it; the model's own places are the same."""
    (path,), user = shops.policies("east"), ASKED + 1
    learned = shops.recommend("east", user)
    path.unlink()
    unlearned = shops.recommend("east", user)
    assert learned[:7] == unlearned[:7]
    assert {*learned[7:]} != {*unlearned[7:]}
