"""Rounds among processes: what is summed, heard and read, and how a round is ended."""

import errno
import os
import signal
import time
from functools import partial

import numpy as np
import pytest
from processes import vector_of, when_stopped
from pydantic import ValidationError

from federation.errors import BadInput, TooFew
from federation.fixed_point import FixedPoint
from federation.plan import RoundPlan
from federation.policy import RoundPolicy
from federation.rounds import together
from federation.simulate import simulate

FORM = FixedPoint(terms=16)


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
        lambda _: {"name": "sum/0"},
        read=lambda name: four.opened.totals[name],
    )
    assert done.results["b"] == {"total": expected}


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
    when_stopped(three.doors["a"], partial(os.kill, os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        three.round(a={"trouble": "stop"})
    started = time.monotonic()
    three.doors["c"].close()
    assert time.monotonic() - started < 5


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


def test_large_vectors_travel_in_blocks(four):
    length = 300_001
    done = together(
        four.doors,
        RoundPlan(run="r", number=2000, cohort=tuple("abcd"), deadline_seconds=30),
        "grow",
        lambda _: {"length": length, "terms": 4},
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


@pytest.mark.parametrize("name", ["x" * 1_000_000, "\x1b[2J", "\x00", ""])
def test_a_sum_of_an_odd_name_is_refused(four, name):
    done = four.round(b={"name": name})
    assert (done.cohort, done.attempts) == (("a", "c", "d"), 2)
    assert done.lost == {"b": "its contribution has no readable header"}


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
        assert not any(key in door.peer._log_path.read_text() for key in seen)
