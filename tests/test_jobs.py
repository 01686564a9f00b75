"""A job works on the data version that its run began with, however the store has grown since."""

from types import SimpleNamespace

import numpy as np
import pytest

from feature_store.errors import BadData
from feature_store.world import generate
from federation.channel import Solo
from federation.errors import Refused
from federation.plan import RoundPlan
from federation.simulate import simulate
from flows.consortium import read_consortium
from tasks import jobs, judging
from tasks.membership import Disclosures
from tasks.room import Room


def test_a_run_goes_on_with_the_events_that_it_began_with(tiny, tmp_path):
    consortium = read_consortium(tiny("tiny"))
    generate(consortium.world, consortium.data, consortium.names)
    memberships = consortium.memberships
    rooms = {each.name: Room(tmp_path / each.name, each) for each in memberships}
    versions = {name: jobs.prepare(room, {}, None)["version"] for name, room in rooms.items()}
    cuts, items = agreed(jobs.cuts, rooms, versions), agreed(jobs.items, rooms, versions)

    with (consortium.data / "east.csv").open("a") as file:
        file.writelines(f"u{n},new,5,2026-01-01T00:00:{n % 60:02}\n" for n in range(2_000))
    later = versions | {"east": jobs.prepare(rooms["east"], {}, None)["version"]}
    assert agreed(jobs.cuts, rooms, later) != cuts
    assert agreed(jobs.cuts, rooms, versions) == cuts
    assert agreed(jobs.items, rooms, versions) == items
    own = {item for room in rooms.values() for item in room.item_ids(versions[room.name])}
    assert items["east"] == items["north"] == {"items": sorted(own)}
    assert {*agreed(jobs.items, rooms, later)["north"]["items"]} == own | {"new"}


def agreed(job, rooms, versions):
    plan = RoundPlan(run="first", number=0, cohort=tuple(rooms))
    work = {
        name: lambda channel, room=room: job(room, {"version": versions[room.name]}, channel)
        for name, room in rooms.items()
    }
    return simulate(work, plan)


GIVEN = """
name: given
state: {folder}/state
catalogue: {folder}/catalogue.txt
participants:
  - &east
    name: east
    events: {{path: east.csv, columns: {{user: u, item: i, time: t}}}}
    test: {{path: test.csv, columns: {{user: u, item: i, time: t}}}}
  - {{<<: *east, name: north}}
  - {{<<: *east, name: south}}
split: {{kind: given}}
model: {{kind: item_to_item}}
"""


def test_a_changed_test_file_is_another_version_and_the_old_one_can_be_read(tmp_path):
    def write(name, rows):
        (tmp_path / name).write_text("u,i,t\n" + "".join(f"{row}\n" for row in rows))

    later = [f"u{n},i{n + 5},2021-{1 + n:02}-01" for n in range(4)]
    write("east.csv", days := [f"u{n % 4},i{n % 5},2020-{1 + n // 28:02}-{1 + n % 28:02}" for n in range(56)])
    write("test.csv", later[:2])
    (tmp_path / "catalogue.txt").write_text("".join(f"i{n}\n" for n in range(9)))
    (tmp_path / "given.yaml").write_text(GIVEN.format(folder=tmp_path))
    consortium = read_consortium(tmp_path / "given.yaml")
    east = Room(tmp_path / "east", consortium.membership(consortium.participants[0]))

    first = jobs.prepare(east, {}, None)["version"]
    write("test.csv", later)
    again = jobs.prepare(east, {}, None)["version"]
    assert first[:16] != again[:16]  # what a task's cache key holds of it
    assert jobs.prepare(east, {"version": first}, None)["rows"] == len(days)
    asked = [np.sort(east.prepared(each, ()).queries(2).users).tolist() for each in (first, again)]
    assert asked == [[0, 1], [0, 1, 2, 3]]


def test_events_on_items_that_the_catalogue_does_not_know_are_counted(tmp_path):
    (tmp_path / "east.csv").write_text("u,i,t\na,x,2020-01-01\na,new,2020-01-02\nb,new,2020-01-03\n")
    (tmp_path / "test.csv").write_text("u,i,t\na,y,2020-02-01\n")
    (tmp_path / "given.yaml").write_text(GIVEN.format(folder=tmp_path))
    consortium = read_consortium(tmp_path / "given.yaml")
    membership = consortium.membership(consortium.participants[0])
    told = jobs.prepare(Room(tmp_path / "east", membership), {}, None)
    assert "unlisted" not in told
    (tmp_path / "catalogue.txt").write_text("x\ny\n")
    told = jobs.prepare(Room(tmp_path / "east", membership), {}, None)
    assert (told["rows"], told["unlisted"]) == (3, 2)
    grows = Room(tmp_path / "east", membership.model_copy(update={"catalogue_grows": True}))
    assert "unlisted" not in jobs.prepare(grows, {"items": None}, None)
    assert jobs.prepare(grows, {"items": 1}, None)["unlisted"] == 2
    silent = membership.model_copy(update={"discloses": Disclosures(rows=False)})
    assert "unlisted" not in jobs.prepare(Room(tmp_path / "east", silent), {}, None)


def test_counts_of_a_champion_with_other_windows_are_known_by_their_size():
    by_window = np.array([[3, 1, 0], [1, 0, 0], [5, 1, 2]])  # of 30, 7 and 90 days
    channel = SimpleNamespace(read={"1/popularity/2": by_window.ravel()}.__getitem__)
    assert judging._counts("1/popularity/2", channel, 3).tolist() == [[3, 1, 0], [5, 1, 2]]


def test_only_new_items_are_summed_and_only_where_the_catalogue_grows(tmp_path):
    (tmp_path / "east.csv").write_text("u,i,t\na,x,2020-01-01\na,y,2020-01-02\n")
    (tmp_path / "test.csv").write_text("u,i,t\na,y,2020-02-01\n")
    (tmp_path / "given.yaml").write_text(GIVEN.format(folder=tmp_path))
    consortium = read_consortium(tmp_path / "given.yaml")
    configured = consortium.membership(consortium.participants[0])
    east = Room(tmp_path / "east", configured.model_copy(update={"catalogue_grows": True}))
    version = jobs.prepare(east, {}, None)["version"]
    assert jobs.items(east, {"version": version}, Solo()) == {"items": ["x", "y"]}
    (tmp_path / "catalogue.txt").write_text("y\n")
    assert jobs.items(east, {"version": version}, Solo()) == {"items": ["x"]}
    assert east.prepared(version, ()).data.item_count == 1
    (tmp_path / "catalogue.txt").write_text("y\nx\n")
    assert east.prepared(version, (), 1).data.items.tolist() == [0, 0]  # in the run that knew one item
    assert east.prepared(version, (), 2).data.item_count == 2
    (tmp_path / "catalogue.txt").write_text("z\n")
    assert jobs.prepare(east, {}, None) == {"version": version, "rows": 2, "users": 1} | {
        "cleaning": jobs.prepare(east, {}, None)["cleaning"]
    }
    east = Room(tmp_path / "east", configured)
    with pytest.raises(Refused, match="east: adds to a sum of items only where no catalogue is configured"):
        jobs.items(east, {"version": version}, Solo())
    with pytest.raises(BadData, match=r"txt knows none of the ids, .*; found 'x'$") as error:
        jobs.prepare(east, {}, None)
    assert "'x'" not in error.value.told  # what the coordinator hears


def test_corrected_aliases_are_imported_anew(tmp_path):
    (tmp_path / "east.csv").write_text("u,i,t\na,x,2020-01-01\n")
    (tmp_path / "test.csv").write_text("u,i,t\na,y,2020-02-01\n")
    aliases = "path: east.csv, aliases: {path: links.csv, own: own, common: common}"
    (tmp_path / "given.yaml").write_text(GIVEN.format(folder=tmp_path).replace("path: east.csv", aliases))
    consortium, found = read_consortium(tmp_path / "given.yaml"), []
    for common in ("wrong", "right"):
        (tmp_path / "links.csv").write_text(f"own,common\nx,{common}\n")
        membership = consortium.membership(consortium.participants[0])
        east = Room(tmp_path / "east", membership.model_copy(update={"catalogue_grows": True}))
        found += jobs.items(east, {"version": jobs.prepare(east, {}, None)["version"]}, Solo())["items"]
    assert found == ["wrong", "right"]
