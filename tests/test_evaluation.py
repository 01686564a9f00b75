"""An evaluation of the champion that fails: its retry opens no sum that tells one participant's own."""

import sys
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from federation.door import Door
from federation.errors import Lost, TooFew
from federation.policy import RoundPolicy
from tasks.evaluation import _forget, _judged

PROGRAM = """
import os, shutil, signal, socket, sys
from pathlib import Path
import numpy as np
from federation.fixed_point import FixedPoint
from federation.participant import serve

name, memory, dies, fd = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[5])

def die_in(job):
    if dies == job:
        os.kill(os.getpid(), signal.SIGKILL)

def refresh(told, channel):
    die_in("refresh")
    return {}

def judge(told, channel):
    total = channel.sum("metrics", np.ones(1), FixedPoint(terms=16))
    die_in("judge")
    channel.sum("bootstrap", np.ones(1), FixedPoint(terms=16))
    return {"metrics": float(total[0])}

def forget(told, channel):
    shutil.rmtree(memory / told["run"])
    return {}

serve(socket.socket(fileno=fd), name, {"refresh": refresh, "judge": judge, "forget": forget}, memory=memory)
"""


@pytest.fixture
def judged(tmp_path):
    """The evaluation `e` among a, b, c and d, of whom d dies in the job that is named."""
    (tmp_path / "program.py").write_text(PROGRAM)
    settings = SimpleNamespace(rounds=RoundPolicy(ready_seconds=20, deadline_seconds=30), seed=0)
    champion = SimpleNamespace(facts={"cuts": []}, run="first", part=lambda _: 2, opened=lambda _: None)

    def judge(dies):
        with ExitStack() as stack:
            doors = {}
            for name in "abcd":
                trouble = dies if name == "d" else "never"
                program = [sys.executable, str(tmp_path / "program.py"), name, str(tmp_path / name), trouble]
                doors[name] = stack.enter_context(Door(name, program, tmp_path / f"{name}.log"))
            reply, lost = _judged(doors, "e", dict.fromkeys("abcd", "1"), champion, settings)
            _forget(doors, "e")
            return reply.results["a"]["metrics"], lost

    return judge


def test_a_retry_without_one_that_was_summed_is_refused_until_it_is_back(judged, tmp_path):
    with pytest.raises(Lost):
        judged("judge")
    with pytest.raises(TooFew, match="would expose the difference"):
        judged("refresh")
    assert judged("never") == (4.0, {})
    assert not [*tmp_path.glob("?/e")]


def test_an_evaluation_goes_on_without_one_that_was_lost_before_a_sum(judged):
    total, lost = judged("refresh")
    assert (total, [*lost]) == (3.0, ["d"])
