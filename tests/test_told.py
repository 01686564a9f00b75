"""Participants who were told different things for a job: no sum of theirs is opened."""

from functools import partial

import numpy as np
import pytest
from processes import vector_of

from feature_store.catalogue import write_catalogue
from federation.channel import Solo
from federation.door import Door
from federation.errors import Refused, TooFew
from federation.plan import RoundPlan
from federation.rounds import together
from flows.consortium import read_consortium
from flows.data import generate_world
from tasks import jobs, ranking
from tasks.doors import open_doors
from tasks.following import ADDS, CHECKED, alike, follow, readable, told_of
from tasks.room import Room

CUTS, OTHER = ["2020-06-01", "2020-06-20"], ["2020-05-01", "2020-06-20"]
ZEROS = "00" * 32


class Forging(Door):
    """A door of a coordinator that shows its participant the own digest as that of all."""

    def ready(self, *told, **options):
        shown = super().ready(*told, **options)
        self.own = shown[64:128]
        return shown[:64] + ZEROS

    def ask(self, *told, keys=None, **options):
        forged = keys and {name: key[:64] + self.own for name, key in keys.items()}
        return super().ask(*told, keys=forged, **options)


def cuts(names, others=""):
    """What each is told: `CUTS`, but the `others` something else."""
    return {name: {"cuts": OTHER if name in others else CUTS} for name in names}


def test_of_three_one_is_told_other_cuts_and_nothing_is_opened(consortium):
    three = consortium(names="abc")
    with pytest.raises(TooFew, match="b: was told, or has kept, something else for sum_vector than most"):
        three.round(**cuts("abc", "b"))
    assert three.opened.totals == {}
    assert three.round(**cuts("abc")).results["b"]["total"][0] == 6


def test_of_four_the_one_who_is_told_something_else_is_left_out(four):
    done = four.round(**cuts("abcd", "b"))
    assert (done.cohort, [*done.lost]) == (("a", "c", "d"), ["b"])
    assert done.results["a"]["total"][0] == 1 + 3 + 4


def test_a_participant_refuses_who_was_told_something_else(four):
    """Whatever the coordinator makes of it."""
    plan, told = RoundPlan(run="told", number=0, cohort=tuple("abc")), cuts("abc", "b")
    keys = {
        name: four.doors[name].ready(plan, "sum_vector", each, deadline_seconds=20)
        for name, each in told.items()
    }
    with pytest.raises(Refused, match=r"a: was told something else for told/0/0, sum_vector, than b$"):
        four.doors["a"].ask("sum_vector", told["a"], plan=plan, keys=keys)
    with pytest.raises(Refused, match=r"b: was told something else for told/0/0, sum_vector, than a, c$"):
        four.doors["b"].ask("sum_vector", told["b"], plan=plan, keys=keys)


@pytest.mark.parametrize(("job", "told"), [("sum_vector", OTHER), ("echo", CUTS)])
def test_it_works_at_nothing_else_than_it_was_ready_for(four, job, told):
    plan = RoundPlan(run="told", number=1, cohort=tuple("abc"))
    key = four.doors["a"].ready(plan, "sum_vector", {"cuts": CUTS}, deadline_seconds=20)
    with pytest.raises(Refused, match=f"a: was not asked whether it is ready for told/1/0, {job}, as it is"):
        four.doors["a"].ask(job, {"cuts": told}, plan=plan, keys=dict.fromkeys("abc", key))


def test_masks_of_those_who_were_told_different_things_do_not_cancel(consortium):
    """Though a coordinator forges what it shows of those who sign nothing."""
    three = consortium(names="abc")
    three.doors = {name: Forging(name, door.peer) for name, door in three.doors.items()}
    expected = np.sum([vector_of(name) for name in "abc"], axis=0)
    same = three.round(**cuts("abc")).results
    np.testing.assert_allclose(same["a"]["total"], expected)
    other = three.round(**cuts("abc", "b")).results
    totals = np.array([each["total"] for each in other.values()])
    assert (np.abs(totals) > 1_000).all()  # uniform words: below it is one of 2^28
    for name in "abc":
        assert not np.isclose(totals, vector_of(name)).any()


@pytest.fixture
def rooms(tiny, tmp_path):
    """The rooms of a tiny consortium, over one catalogue of 100 items."""
    consortium = read_consortium(tiny("tiny"))
    generate_world(consortium)
    found = {each.name: Room(tmp_path / each.name, each) for each in consortium.memberships}
    write_catalogue(consortium.memberships[0].catalogue, [f"i{n}" for n in range(100)])
    return found


def told_by(room, catalogue, **more):
    own = {"run": "r", "number": 0, "version": f"of {room.name}"}
    return {**own, **told_of(catalogue, 100), **more}


class Hearing(Solo):
    """Who reads the catalogue that the coordinator has, in a job that adds nothing."""

    cohort = ()

    def __init__(self, catalogue):
        self.read = readable(catalogue, None, None)


def train(room, told, channel):
    return {}


def test_all_are_alike_but_for_their_own_version(rooms):
    a, b, c = rooms.values()
    catalogue = a.membership.catalogue
    gather, each = partial(told_by, catalogue=catalogue), (a, b, c)
    for room in each:
        follow(room, train, told_by(room, catalogue, cuts=CUTS), Solo())
        follow(room, train, told_by(room, catalogue, cuts=CUTS), Solo())  # asked again, as after a loss
    first, second, third = (alike(room, "gather", gather(room)) for room in each)
    assert first == second == third
    assert len(first["kept"]["0"]) == 1
    for more in ({"cuts": OTHER}, {"items": 99}, {"state": {"trees": []}}, {"part": 2}):
        assert alike(a, "gather", gather(a, **more)) != first
    assert alike(a, "grow", gather(a)) != first


def test_what_the_kept_work_was_told_counts_until_it_is_dropped(rooms):
    """A sum of kept terms is told no cuts: those of the work count, and stay though it is done anew."""
    a, b, _ = rooms.values()
    catalogue = a.membership.catalogue
    follow(b, train, told_by(b, catalogue, cuts=CUTS), Solo())
    for told in (OTHER, CUTS):
        follow(a, train, told_by(a, catalogue, cuts=told), Solo())
        assert alike(a, "gather", told_by(a, catalogue)) != alike(b, "gather", told_by(b, catalogue))
    follow(a, jobs.forget, {"run": "r", "number": 0}, Solo())
    follow(a, train, told_by(a, catalogue, cuts=CUTS), Solo())
    assert alike(a, "gather", told_by(a, catalogue)) == alike(b, "gather", told_by(b, catalogue))


def test_who_does_its_work_again_was_told_what_the_others_were(rooms):
    """The others were there for the sums before, which keep nothing that is done again."""
    a, b, _ = rooms.values()
    catalogue = a.membership.catalogue
    for job in ("items", "cuts", "train"):
        for room in (a, b):
            follow(room, named(job), told_by(room, catalogue), Solo())
    follow(a, jobs.forget, {"run": "r", "number": 0}, Solo())
    follow(a, train, told_by(a, catalogue), Solo())
    assert alike(a, "gather", told_by(a, catalogue)) == alike(b, "gather", told_by(b, catalogue))


def named(job):
    """A job of that name, which does nothing."""

    def nothing(room, told, channel):
        return {}

    nothing.__name__ = job
    return nothing


def test_of_each_job_is_known_whether_it_keeps_work():
    """One that only adds must be named, else who does its work again is told apart from the others."""
    work = {"train", "tabulate", "score", "refresh"}
    without_a_round = {"prepare", "forget", "tidy", "recommend"}
    assert jobs.JOBS.keys() == work | without_a_round | ADDS | CHECKED


def test_a_catalogue_of_which_nothing_is_told_counts_as_it_lies_there(rooms, tmp_path):
    a, _, _ = rooms.values()
    own = Room(tmp_path / "own", a.membership.model_copy(update={"catalogue": tmp_path / "own.txt"}))
    write_catalogue(tmp_path / "own.txt", ["i1"])
    assert alike(a, "cuts", {"run": "r"}) != alike(own, "cuts", {"run": "r"})


def test_content_of_which_nothing_is_told_counts_as_it_lies_there(rooms, tmp_path):
    a, _, _ = rooms.values()
    found = [alike(a, "cuts", {"run": "r"})]
    own = Room(tmp_path / "own", a.membership.model_copy(update={"content": tmp_path / "items.parquet"}))
    for told in (b"one", b"other"):
        (tmp_path / "items.parquet").write_bytes(told)
        found.append(alike(own, "cuts", {"run": "r"}))
    assert all(one != other for place, one in enumerate(found) for other in found[:place])


def test_nothing_is_left_of_a_catalogue_that_was_told_before(rooms, tmp_path):
    """Else its terms could be of another catalogue than the digest is."""
    room = next(iter(rooms.values()))
    version, cuts = room.import_all().version, ("2020-01-01", "2020-02-01")
    ids = room.item_ids(version)
    found = []
    for name, items in (("one", ["x", *ids[:1]]), ("two", [*ids[:1], "x"])):
        write_catalogue(tmp_path / name, items)
        follow(room, train, told_by(room, tmp_path / name, items=2), Hearing(tmp_path / name))
        found.append({*room.prepared(version, cuts, 2).data.items.tolist()})
    assert found == [{1}, {0}]


def test_a_catalogue_that_is_not_the_one_that_was_told_of_is_not_taken(rooms, tmp_path):
    """Else one could be told the digest of all, and read a catalogue of a single item of its own."""
    a, _, _ = rooms.values()
    own = a.membership.catalogue.read_bytes()
    for name, items in (("told", ["b", "c"]), ("read", ["b", "x"])):
        write_catalogue(tmp_path / name, items)
    with pytest.raises(Refused, match="east: what it read as the catalogue is another than it was told of"):
        follow(a, train, told_by(a, tmp_path / "told"), Hearing(tmp_path / "read"))
    assert a.membership.catalogue.read_bytes() == own


def test_nothing_is_held_of_a_round_that_is_dropped(rooms, monkeypatch):
    room = next(iter(rooms.values()))
    monkeypatch.setattr(ranking, "training", lambda *_: None)
    ranking._under_way(room, "r", 0, 1)
    jobs.forget(room, {"run": "r", "number": 0}, Solo())
    assert ranking._under_way.cache_info().currsize == 0


def test_terms_that_were_kept_under_other_cuts_are_not_summed(rooms, tmp_path):
    memberships = [room.membership for room in rooms.values()]
    with open_doors(tmp_path / "state" / "tiny", memberships) as doors:
        versions = {name: door.ask("prepare")["version"] for name, door in doors.items()}
        common = {"run": "r", "number": 0, **told_of(memberships[0].catalogue, None)}
        told = {name: {**common, "version": version} for name, version in versions.items()}
        for name, door in doors.items():
            door.ask("train", {**told[name], "cuts": OTHER if name == "north" else CUTS})
        plan, opened = RoundPlan(run="r", number=0, cohort=tuple(doors)), []
        gather = partial(
            together,
            doors,
            plan,
            "gather",
            told.__getitem__,
            memberships[0].rounds,
            lambda *each: opened.append(each),
        )
        with pytest.raises(TooFew, match="north: was told, or has kept, something else for gather than most"):
            gather()
        assert opened == []
        doors["north"].ask("forget", {"run": "r", "number": 0})
        doors["north"].ask("train", {**told["north"], "cuts": CUTS})
        assert gather().cohort == ("east", "north", "south")
        assert opened
