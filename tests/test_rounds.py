import errno
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from federation.door import Door
from federation.errors import BadInput, Lost, TooFew
from federation.fixed_point import FixedPoint
from federation.plan import RoundPlan
from federation.rounds import Opened, RoundPolicy, together
from federation.simulate import simulate
from federation.summed import Summed

PROGRAM = str(Path(__file__).with_name("participant_program.py"))
FORM = FixedPoint(terms=16)


class Consortium:
    """Doors of a, b, c, ... and rounds among them; vectors are [1, 1/3], [2, 1/3], ..."""

    def __init__(self, folder, names="abcd", **policy):
        self.policy = RoundPolicy(**policy)
        own = json.dumps(policy)
        self.doors = {
            name: Door(
                name,
                [sys.executable, PROGRAM, name, "--policy", own, "--memory", str(folder / name)],
                folder / f"{name}.log",
            )
            for name in names
        }
        self.opened = Opened()
        self.memory = None
        self.number = 0

    def round(self, job="sum_vector", deadline=20.0, rounds=1, **troubles):
        self.number += 1
        self.plan = RoundPlan(
            run="r", number=self.number, cohort=tuple(self.doors), deadline_seconds=deadline
        )
        return together(
            self.doors,
            self.plan,
            job,
            lambda name: {"vector": vector_of(name), "rounds": rounds, **troubles.get(name, {})},
            self.policy,
            self.opened,
            lambda name: self.opened.totals[name],
            self.memory,
        )

    def close(self):
        for door in self.doors.values():
            door.close()


def vector_of(name):
    return [1.0 + "abcdefgh".index(name), 1 / 3]


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    consortium = Consortium(tmp_path_factory.mktemp("four"), ready_seconds=20)
    yield consortium
    consortium.close()


@pytest.fixture
def consortium(tmp_path):
    made = []

    def make(**more):
        made.append(Consortium(tmp_path, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_round_of_processes_gives_what_the_simulation_gives(four):
    done = four.round(rounds=5)
    parts = {n: lambda channel, n=n: channel.sum("x", np.array(vector_of(n)), FORM) for n in "abcd"}
    simulated = simulate(parts, four.plan, masks=False)["a"]
    assert all(result["total"] == simulated.tolist() for result in done.results.values())
    assert len({result["pid"] for result in done.results.values()}) == 4
    np.testing.assert_array_equal(four.opened.totals["sum/4"], simulated)
    assert (done.attempts, done.lost, done.degraded) == (1, {}, False)
    assert done.bytes_up == done.bytes_down == dict.fromkeys("abcd", 5 * 2 * 8)


def test_totals_are_read_over_the_connection(four):
    four.round()
    expected = four.opened.totals["sum/0"].tolist()
    done = together(
        four.doors,
        RoundPlan(run="r", number=1000, cohort=tuple("abcd")),
        "read_total",
        {"name": "sum/0"},
        read=lambda name: four.opened.totals[name],
    )
    assert done.results["b"] == {"total": expected}


TROUBLES = {
    "nan": "value 1 is NaN",
    "infinity": "value 1 is infinite",
    "huge": "value 1 is outside",
    "shape": "gave length 1 where others gave 2",
    "die": "its process ended",
}


@pytest.mark.parametrize(("trouble", "why"), TROUBLES.items())
def test_the_round_goes_on_without_the_refused_and_the_dead(four, trouble, why):
    done = four.round(c={"trouble": trouble})
    assert done.cohort == ("a", "b", "d")
    assert done.results["a"]["total"][0] == 1 + 2 + 4
    assert why in done.lost["c"]
    assert (set(done.lost), done.attempts, done.degraded) == ({"c"}, 2, False)
    assert four.opened.label == done.plan.label
    assert four.opened.totals["sum/0"][0] == 7


def test_who_hangs_is_ended_at_the_deadline_and_the_round_goes_on(four):
    four.round()
    started = time.monotonic()
    done = four.round(deadline=1.5, b={"trouble": "stop"})
    assert time.monotonic() - started < 10
    assert done.lost == {"b": "silent until the deadline"}
    assert done.cohort == ("a", "c", "d")


def test_after_an_opened_sum_the_round_waits_for_the_same_cohort(four, tmp_path):
    done = four.round(rounds=3, c={"trouble": "die", "at": 1, "once": str(tmp_path / "once")})
    assert done.cohort == ("a", "b", "c", "d")
    assert (done.lost, done.attempts, done.degraded) == ({}, 2, False)
    assert four.opened.label == f"r/{four.number}/1"
    assert set(four.opened.totals) == {"sum/0", "sum/1", "sum/2"}


@pytest.mark.parametrize("trouble", ["die", "nan"])
def test_after_an_opened_sum_no_other_cohort_is_summed(four, trouble):
    with pytest.raises(Lost) as caught:
        four.round(rounds=3, c={"trouble": trouble, "at": 1})
    assert set(caught.value.participants) == {"c"}
    assert caught.value.exit_code == 5


def test_participants_themselves_refuse_to_be_exposed(four):
    four.round()
    four.number -= 1
    with pytest.raises(TooFew, match="would expose the difference"):
        four.round(c={"trouble": "nan"})


def test_processes_started_anew_still_refuse_to_be_exposed(consortium):
    before = consortium()
    with pytest.raises(Lost):
        before.round(rounds=3, **{name: {"trouble": "die", "at": 1} for name in "abcd"})
    before.close()
    after = consortium()
    with pytest.raises(TooFew, match="would expose the difference"):
        after.round(rounds=3, d={"trouble": "nan"})
    after.number -= 1
    assert after.round(rounds=3).cohort == ("a", "b", "c", "d")


def test_an_attempt_that_opened_nothing_is_forgotten(consortium):
    once = consortium()
    with pytest.raises(TooFew):
        once.round(**{name: {"trouble": "nan"} for name in "bcd"})
    once.number -= 1
    assert once.round(d={"trouble": "nan"}).cohort == ("a", "b", "c")


def test_where_all_agreed_to_be_exposed_the_rest_goes_on(consortium):
    agreed = consortium(on_loss="continue")
    done = agreed.round(rounds=3, c={"trouble": "die", "at": 1})
    assert done.cohort == ("a", "b", "d")
    assert (done.exposed, done.degraded) == (("c",), True)
    assert done.results["a"]["total"][0] == 7


def test_whoever_is_missing_from_the_sums_before_the_resumption_is_exposed(consortium):
    agreed = consortium(on_loss="continue")
    agreed.memory = Summed()
    agreed.round(rounds=3, c={"trouble": "die", "at": 1})
    for _ in range(2):
        agreed.number -= 1
        done = agreed.round(d={"trouble": "nan"})
        assert (done.cohort, done.exposed) == (("a", "b", "c"), ("d",))
    assert agreed.memory.everyone("r") == set("abcd")


def test_a_sum_that_cannot_be_kept_is_no_fault_of_a_participant(consortium):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    three = consortium(names="abc")
    three.opened = full
    with pytest.raises(OSError, match="No space left on device"):
        three.round()


def test_an_interruption_waits_for_nobody(consortium, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs us behind
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    three = consortium(names="abc")
    for door in three.doors.values():
        door.ask("echo")
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        three.round(a={"trouble": "stop"})
    started = time.monotonic()
    three.doors["c"].close()
    assert time.monotonic() - started < 5


def test_too_few_left_stops_the_round(consortium):
    three = consortium(names="abc")
    with pytest.raises(
        TooFew, match=r"needs 3 participants .* found 2 \(a, c\); b: sum 'sum/0': value 1 is NaN"
    ):
        three.round(b={"trouble": "nan"})
    assert three.opened.totals == {}


def test_the_quorum_is_a_part_of_the_invited(consortium):
    with pytest.raises(TooFew, match=r"needs 4 participants .*quorum 1 of 4\), found 3"):
        consortium(quorum=1.0).round(b={"trouble": "nan"})


def test_two_sum_only_where_all_agreed(consortium):
    with pytest.raises(ValidationError, match="agreed_to_two"):
        RoundPolicy(minimum=2)
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        RoundPolicy(minimum=1, agreed_to_two=True)
    two = consortium(names="ab", minimum=2, agreed_to_two=True)
    assert two.round().results["a"]["total"][0] == 3
    with pytest.raises(TooFew, match=r"needs 2 participants .* found 1"):
        two.round(b={"trouble": "nan"})


def test_without_masks_the_same_bits(consortium, four):
    plain = consortium(masks=False)
    assert plain.round().results["a"]["total"] == four.round().results["a"]["total"]


def test_who_cannot_start_is_lost_at_the_ready_call(consortium, tmp_path):
    some = consortium()
    some.doors["d"] = Door("d", [sys.executable, "-c", "raise SystemExit(7)"], tmp_path / "d.log")
    done = some.round()
    assert done.lost == {"d": "its process ended (exit code 7)"}
    assert (done.cohort, done.attempts) == (("a", "b", "c"), 1)


def test_large_vectors_travel_in_blocks(four):
    length = 300_001
    done = together(
        four.doors,
        RoundPlan(run="r", number=2000, cohort=tuple("abcd"), deadline_seconds=30),
        "grow",
        {"length": length, "terms": 4},
    )
    assert all(result["correct"] for result in done.results.values())
    assert done.bytes_up["a"] == 8 * length


def test_only_the_part_of_a_sum_that_is_asked_for_travels(four):
    asked = {"a": [0, 10], "b": [2, 5], "c": [9, 10], "d": [4, 4]}
    plan = RoundPlan(run="r", number=3000, cohort=tuple("abcd"), deadline_seconds=30)
    done = together(four.doors, plan, "hear_part", lambda name: {"part": asked[name]})
    assert {name: result["heard"] for name, result in done.results.items()} == {
        name: [4 * value for value in range(*part)] for name, part in asked.items()
    }
    assert done.bytes_down == {"a": 80, "b": 24, "c": 8, "d": 0}


@pytest.mark.parametrize("part", [[-1, 3], [0, 11], [3, 2], [0.0, 1.0], [0]])
def test_a_part_that_is_none_is_refused(four, part):
    four.number += 1
    plan = RoundPlan(run="part", number=four.number, cohort=tuple("abcd"), deadline_seconds=30)
    done = together(four.doors, plan, "hear_part", lambda name: {"part": part if name == "b" else [0, 1]})
    assert done.cohort == ("a", "c", "d")
    assert "b" in done.lost


def test_everyone_invited_has_a_door(four):
    with pytest.raises(BadInput, match=r"no door leads to \['z'\]"):
        together(four.doors, RoundPlan(run="r", number=0, cohort=("a", "z")), "echo")


def test_logs_never_hold_keys(four, monkeypatch):
    seen = []
    for door in four.doors.values():
        monkeypatch.setattr(
            door, "ready", lambda *a, ready=door.ready, **k: seen.append(ready(*a, **k)) or seen[-1]
        )
    four.round()
    assert len(seen) == len(set(seen)) == 4
    for door in four.doors.values():
        assert not any(key in door._log_path.read_text() for key in seen)
