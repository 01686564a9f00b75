"""Participants that are processes lose one of them in the middle of a tree."""

import json
import time

import growing_program as growing
import lightgbm
import pytest
from processes import Opened, program

from federation.errors import Lost
from federation.plan import RoundPlan
from federation.policy import RoundPolicy
from federation.rounds import together
from federation.simulate import simulate

TREES = 4
AT = 30
"""The sum at which there is trouble: in the third tree."""

WHY = {
    "die": "its process ended (exit code -9)",
    "raise": "KeyError (its own log says more)",
    "stop": "silent until",
    "late": "silent until",
}


class Consortium:
    """Doors of participants that grow trees, and rounds among them."""

    def __init__(self, folder, names, **policy):
        self.folder, self.policy, self.opened = folder, RoundPolicy(ready_seconds=60, **policy), Opened()
        own = json.dumps(policy)
        self.doors = {
            name: program(name, [growing.__file__, name, "--policy", own], folder) for name in names
        }

    def round(self, number, deadline=60.0, **troubles):
        plan = RoundPlan(run="r", number=number, cohort=tuple(self.doors), deadline_seconds=deadline)
        return together(self.doors, plan, "grow_trees", self.arguments(troubles), self.policy, self.opened)

    def arguments(self, troubles):
        def each(name):
            return {"trees": TREES, "told": str(self.folder / f"{name}.told"), **troubles.get(name, {})}

        return each

    def told(self):
        """What broke the work of each off, as it saw it itself."""
        return {path.stem: path.read_text() for path in self.folder.glob("*.told")}

    def close(self):
        for door in self.doors.values():
            door.close()


@pytest.fixture
def consortium(tmp_path):
    made = []

    def make(names, **policy):
        made.append(Consortium(tmp_path, names, **policy))
        return made[-1]

    yield make
    for each in made:
        each.close()


def undisturbed(names):
    """What the same participants grow as threads, with nobody lost."""
    parts = {name: lambda channel: growing.trained(channel, TREES) for name in names}
    texts = simulate(parts, RoundPlan(run="r", number=0, cohort=tuple(names)))
    assert len(set(texts.values())) == 1
    return texts[names[0]]


def texts_of(done):
    return {result["text"] for result in done.results.values()}


@pytest.mark.parametrize(
    "trouble", ["die", *(pytest.param(t, marks=pytest.mark.slow) for t in ("raise", "stop"))]
)
def test_the_round_is_repeated_with_the_same_cohort_and_gives_the_same_text(consortium, tmp_path, trouble):
    three = consortium("abc")
    deadline = 12.0 if trouble == "stop" else 60.0
    once = {"trouble": trouble, "at": AT, "once": str(tmp_path / "once")}
    done = three.round(0, deadline, b=once)
    assert texts_of(done) == {undisturbed("abc")}
    assert (done.cohort, done.attempts, done.lost) == (("a", "b", "c"), 2, {})
    assert (done.exposed, done.degraded, done.returned.keys()) == ((), False, {"b"})
    for name in "ac":
        assert three.doors[name].starts == 1
        assert three.told()[name].startswith(f"Lost: b: {WHY[trouble]}")
    assert "alice" not in "".join(three.told().values())


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["die", "late"])
def test_who_stays_lost_leaves_a_round_that_can_be_resumed(consortium, trouble):
    three = consortium("abc")
    started, deadline = time.monotonic(), 8.0 if trouble == "late" else 60.0
    with pytest.raises(Lost) as caught:
        three.round(1, deadline, b={"trouble": trouble, "at": AT})
    assert time.monotonic() - started < 90
    assert set(caught.value.participants) == {"b"}
    assert WHY[trouble] in str(caught.value)
    assert {name: text.split(":")[:2] for name, text in three.told().items() if name != "b"} == {
        name: ["Lost", " b"] for name in "ac"
    }
    assert texts_of(three.round(1)) == {undisturbed("abc")}
    assert [three.doors[name].starts for name in "ac"] == [1, 1]


def test_where_all_agreed_the_rest_goes_on_and_is_told_who_is_exposed(consortium):
    four = consortium("abcd", on_loss="continue")
    done = four.round(0, b={"trouble": "die", "at": AT})
    assert texts_of(done) == {undisturbed("acd")}
    assert (done.cohort, done.attempts, set(done.lost)) == (("a", "c", "d"), 2, {"b"})
    assert (done.exposed, done.degraded) == (("b",), True)
    assert lightgbm.Booster(model_str=texts_of(done).pop()).num_trees() == TREES
