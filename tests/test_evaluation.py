"""An evaluation of the champion that fails: its retry opens no sum that tells one participant's own."""

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import program

from federation.errors import BadInput, Lost, Refused, TooFew
from federation.plan import RoundPlan
from federation.policy import RoundPolicy
from federation.rounds import Together
from flows import evaluation as flow
from flows import operate
from flows.deploy import order_of
from tasks import evaluation
from tasks.evaluation import _forget, _judged, _refresh, _versions

PROGRAM = """
import os, shutil, signal, socket, sys
from pathlib import Path
import numpy as np
from federation.fixed_point import FixedPoint
from federation.participant import serve
from federation.policy import RoundPolicy

name, memory, dies, on_loss, fd = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:5], int(sys.argv[6])

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
    if "number" not in told:
        shutil.rmtree(memory / told["run"])
    return {}

jobs = {"refresh": refresh, "judge": judge, "forget": forget}
serve(socket.socket(fileno=fd), name, jobs, RoundPolicy(on_loss=on_loss), memory=memory)
"""


@pytest.fixture
def judged(tmp_path):
    """The evaluation `e` among a, b, c and d, of whom d dies in the job that is named."""
    (tmp_path / "program.py").write_text(PROGRAM)
    champion = SimpleNamespace(facts={"cuts": []}, run="first", part=lambda _: 2, opened=lambda _: None)

    def judge(dies, on_loss="wait"):
        policy = RoundPolicy(ready_seconds=20, deadline_seconds=30, on_loss=on_loss)
        settings = SimpleNamespace(rounds=policy, seed=0, catalogue=tmp_path / "none.txt", content=None)
        with ExitStack() as stack:
            doors = {}
            for name in "abcd":
                trouble = dies if name == "d" else "never"
                told = [name, str(tmp_path / name), trouble, on_loss]
                argv = [str(tmp_path / "program.py"), *told]
                doors[name] = stack.enter_context(program(name, argv, tmp_path))
            reply, lost = _judged(doors, "e", dict.fromkeys("abcd", "1"), champion, settings)
            _forget(doors, "e", settings)
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


def test_whose_terms_can_be_inferred_where_it_goes_on_is_told(judged):
    total, lost = judged("judge", on_loss="continue")
    assert (total, [*lost]) == (3.0, ["d"])
    assert lost["d"].endswith("; its terms can be inferred")


def test_a_newest_window_that_begins_with_validation_is_told(monkeypatch):
    champion = SimpleNamespace(facts={"cuts": ["2020-01-01", "2020-02-01"]})
    told = {"a": {"cuts": ["2021-01-01"]}}
    reply = Together(RoundPlan(run="e", number=0, cohort=("a",)), told, {}, {}, {}, 1, ())
    monkeypatch.setattr(evaluation, "together", lambda *_, **__: reply)
    settings = SimpleNamespace(rounds=RoundPolicy(), seed=0, catalogue=Path("none.txt"), content=None)
    with pytest.raises(
        BadInput, match="found cuts 2021-01-01, expected one for validation and a later one for test"
    ):
        _judged({}, "e", {"a": "1"}, champion, settings)


def test_who_tells_no_version_of_its_data_is_left_out():
    doors = {name: SimpleNamespace(ask=lambda *_, **__: {"version": "0"}) for name in "abc"}
    doors["d"] = SimpleNamespace(ask=lambda *_, **__: {})
    found, lost = _versions(doors, SimpleNamespace(rounds=RoundPolicy(), agreed={}))
    assert (found, lost) == (dict.fromkeys("abc", "0"), {"d": "told of its data what is no figure"})


def test_what_a_participant_is_refused_for_fails_the_evaluation(tiny, monkeypatch):
    """Else one that tells odd results would pass for a state folder in use, of which nobody is alerted."""

    def odd(*_):
        raise Refused("e/0/0: d told other results of the same sums than the rest")

    path = tiny("odd")
    monkeypatch.setattr(flow, "evaluate_champion", odd)
    monkeypatch.setattr(operate, "_log", lambda _: None)
    with pytest.raises(Refused, match="d told other results"):
        flow.evaluate.fn(order_of(path, None))


def test_what_is_asked_of_one_after_the_other_has_the_deadline_of_a_round():
    asked, policy = [], RoundPolicy(deadline_seconds=3_600)

    def ask(job, arguments=None, *, read=None, deadline_seconds=600.0):
        asked.append((job, deadline_seconds))
        return {"version": "0"}

    doors = dict.fromkeys("abc", SimpleNamespace(ask=ask))
    assert _versions(doors, SimpleNamespace(rounds=policy, agreed={})) == (dict.fromkeys("abc", "0"), {})
    plan = RoundPlan(run="e", number=0, cohort=("a",), deadline_seconds=policy.deadline_seconds)
    assert _refresh(doors, plan, {"a": {}}, None) == {}
    assert asked == [(job, 3_600) for job in ("prepare", "prepare", "prepare", "forget", "refresh")]
