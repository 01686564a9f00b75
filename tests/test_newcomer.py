"""A participant that has nothing to learn from yet: served by the others' ranker, in nobody's way."""

import csv
import json

import numpy as np
import pytest

CONSORTIUM = """
name: small
state: {state}
participants:
{participants}
split: {{kind: temporal, cuts: [2020-08-01, 2020-09-15]}}
model: {{two_stage: {{candidates: 10, learn_from: 1, boosting: {{trees: 20, min_data_in_leaf: 20}}}}}}
"""


def shop(path, users, first, last, seed):
    """Events of `users` between two days of 2020, whose items follow a taste of two kinds."""
    r, start = np.random.default_rng(seed), np.datetime64("2020-01-01")
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "time"])
        for event in range(users * 12):
            user = event % users
            item = 2 * int(60 * r.beta(1, 3)) + user % 2
            rows.writerow([f"u{user}", f"i{item}", start + np.timedelta64(int(r.integers(first, last)), "D")])


@pytest.mark.slow
def test_a_newcomer_is_served_and_blocks_nobody(small):
    for seed, name in enumerate(("east", "north", "south")):
        shop(small.folder / f"{name}.csv", 120, 0, 300, seed)
    shop(small.folder / "new.csv", 30, 250, 300, 9)  # nobody came back before validation
    participants = "\n".join(
        f"  - {{name: {name}, events: {{path: {name}.csv, columns: {{user: user, item: item, time: time}}}}}}"
        for name in ("east", "new", "north", "south")
    )
    path = small.folder / "small.yaml"
    path.write_text(CONSORTIUM.format(state=small.folder / "state", participants=participants))
    small.chorus("run", path, "--json", "figures.json")
    figures = json.loads((small.folder / "figures.json").read_text())
    assert figures["lost"] == {}
    new = figures["participants"]["new"]
    assert new["consortium"]["queries"] > 0
    assert new["alone"] == new["popularity"]
    assert (new["chosen"]["alone_trees"], new["chosen"]["consortium_trees"]) == (0, figures["trees"])
    grown = json.loads((small.run / "round-0000" / "grown-0000.json").read_text())
    assert grown["cohort"] == ["east", "north", "south"]
