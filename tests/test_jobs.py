"""A job works on the data version that its run began with, however the store has grown since."""

from feature_store.world import generate
from federation.plan import RoundPlan
from federation.simulate import simulate
from flows.consortium import read_consortium
from tasks import jobs
from tasks.room import Room


def test_a_run_goes_on_with_the_events_that_it_began_with(tiny, tmp_path):
    consortium = read_consortium(tiny("tiny"))
    generate(consortium.world, consortium.data, consortium.names)
    memberships = [consortium.membership(each) for each in consortium.participants]
    rooms = {each.name: Room(tmp_path / each.name, each) for each in memberships}
    versions = {name: jobs.prepare(room, {}, None)["version"] for name, room in rooms.items()}
    cuts, items = agreed(rooms, versions), jobs.items(rooms["east"], {"version": versions["east"]}, None)

    with (consortium.data / "east.csv").open("a") as file:
        file.writelines(f"u{n},new,5,2026-01-01T00:00:{n % 60:02}\n" for n in range(2_000))
    later = versions | {"east": jobs.prepare(rooms["east"], {}, None)["version"]}
    assert agreed(rooms, later) != cuts
    assert agreed(rooms, versions) == cuts
    assert jobs.items(rooms["east"], {"version": versions["east"]}, None) == items
    assert "new" in jobs.items(rooms["east"], {"version": later["east"]}, None)["items"]


def agreed(rooms, versions):
    plan = RoundPlan(run="first", number=0, cohort=tuple(rooms))
    told = {"versions": versions}
    work = {name: lambda channel, room=room: jobs.cuts(room, told, channel) for name, room in rooms.items()}
    return simulate(work, plan)
