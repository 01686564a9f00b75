"""What a participant's process says to a coordinator, whatever that is ready for."""

import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from processes import PROGRAM
from pydantic import ValidationError

from federation.frames import Frames
from federation.plan import RoundPlan

PLAN = RoundPlan(run="r", number=0, cohort=("a", "b", "c"))


@contextmanager
def spoken_to(*options):
    """Ask a participant's process, which agreed to sums without masks, past a door; returns its reply."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, PROGRAM, "a", "--policy", '{"masks": false}', "--fd", str(theirs.fileno())]
    with subprocess.Popen([*command, *options], pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        frames = Frames(ours)

        def ask(plan=PLAN, seconds=20, **asked):
            frames.send({"plan": plan.model_dump(), "seconds": seconds, **asked})
            return frames.receive(deadline=time.monotonic() + 20)

        try:
            yield ask
        finally:
            frames.close()
        assert process.wait(10) == 0


@pytest.mark.parametrize("job", ["late_sum", "sleep"])
def test_nothing_is_sent_after_its_own_deadline(job):
    """A coordinator that is ready to wait longer hears an error, and neither a term nor a result."""
    with spoken_to() as ask:
        assert ask(do="ready", job=job, arguments={"seconds": 0.5})[0]["say"] == "ready"
        told = ask(do="job", job=job, arguments={"seconds": 0.5}, seconds=0.3)
        late = {"type": "Lost", "participants": {"a": "its own deadline has passed"}}
        assert told == ({"say": "error", "error": late}, 0)


def test_a_time_that_is_none_is_an_error_and_no_end():
    with spoken_to() as ask:
        for seconds in (None, "soon", [1]):
            assert (
                ask(do="ready", job="echo", arguments={}, seconds=seconds)[0]["error"]["type"]
                == "ChorusError"
            )
        assert ask(do="ready", job="echo", arguments={})[0]["say"] == "ready"


def test_what_is_no_frame_ends_it_without_a_word(capfd):
    ours, theirs = socket.socketpair()
    with (
        ours,
        subprocess.Popen(
            [sys.executable, PROGRAM, "a", "--fd", str(theirs.fileno())], pass_fds=[theirs.fileno()]
        ) as process,
    ):
        theirs.close()
        ours.sendall(b"GET / HTTP/1.1\r\n")
        assert process.wait(20) == 0
    assert capfd.readouterr().err == ""


def test_what_could_still_be_opened_is_remembered_by_the_next_process(tmp_path):
    """The coordinator ends after it got a term; another one asks for a sum among others."""
    assert _after_a_term(PLAN, tmp_path)["say"] == "sum"
    told = _after_a_term(RoundPlan(run="r", number=0, cohort=("a", "b", "d")), tmp_path)
    assert told["error"]["type"] == "Refused"
    assert "would expose the difference" in told["error"]["message"]
    assert _after_a_term(PLAN, tmp_path)["say"] == "sum"
    assert _after_a_term(RoundPlan(run="../r", number=0, cohort=("a", "b", "c")), tmp_path)["say"] == "error"
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert (tmp_path / "r" / "summed.json").stat().st_mode & 0o077 == 0


def test_two_under_three_names_are_no_cohort_of_three():
    """Else a sum of two, which shows each the other's term, would pass for one of three."""
    with spoken_to() as ask:
        told = ask(RoundPlan.model_construct(run="r", number=0, cohort=("a", "b", "b")), do="ready")[0]
        assert told["say"] == "error"
    with pytest.raises(ValidationError, match="a participant is named twice"):
        RoundPlan(run="r", number=0, cohort=("a", "b", "b"))


def test_a_cohort_is_the_same_in_whichever_order_it_is_named():
    assert RoundPlan(run="r", number=0, cohort=("c", "a", "b")) == PLAN


def _after_a_term(plan, memory):
    """What a process of its own says first when it is asked for a sum; its coordinator then ends."""
    with spoken_to("--memory", str(memory)) as ask:
        asked = {"job": "sum_vector", "arguments": {"vector": [1.0]}}
        ask(plan, do="ready", **asked)
        return ask(plan, do="job", **asked)[0]
