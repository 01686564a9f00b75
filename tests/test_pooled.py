"""The arm of `chorus compare` that learns from everybody's rows in one place."""

from pathlib import Path

import pytest

from feature_store.catalogue import union, write_catalogue
from feature_store.world import generate
from flows.consortium import read_consortium
from tasks.pooled import pool
from tasks.room import Room
from tasks.runs import RunFolder


@pytest.mark.parametrize("kind", ["item_to_item", "sequence"])
def test_whose_data_could_not_be_prepared_is_not_in_the_pooled_figures(tiny, tmp_path, kind):
    if kind == "sequence":
        pytest.importorskip("torch")
    path = tiny("tiny")
    path.write_text(
        path.read_text().replace("kind: item_to_item", f"kind: {kind}, sequence: {{width: 8, trusts: [1]}}")
    )
    consortium = read_consortium(path)
    generate(consortium.world, consortium.data, consortium.names)
    home = Path(consortium.home)
    memberships = consortium.memberships
    rooms = {each.name: Room(home / "participants" / each.name, each) for each in memberships}
    for room in rooms.values():
        room.import_all()
    write_catalogue(consortium.catalogue_path, union(room.item_ids() for room in rooms.values()))
    folder = RunFolder(tmp_path / "a-run")
    folder.note(cuts=["2024-05-01", "2024-06-01"])

    def pooled(names):
        told = {
            name: {
                "data_version": room.version if name in names else None,
                "consortium": {"ndcg_at_10": 0.1} if name in names else None,
            }
            for name, room in rooms.items()
        }
        return pool.fn(
            home, memberships, {"participants": told, "overall": {}, "federated_rounds": 2}, folder
        )

    whole, part = pooled(["east", "north", "south"]), pooled(["east", "north"])
    asked = {name: whole["participants"][name]["pooled"]["queries"] for name in rooms}
    assert part["participants"]["south"]["pooled"] is None
    assert part["overall"]["pooled"]["queries"] == asked["east"] + asked["north"] > 0
    assert part["participants"]["east"]["pooled"] != whole["participants"]["east"]["pooled"]
