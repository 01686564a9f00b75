import time
from types import SimpleNamespace

import pytest

from federation.errors import BadInput
from federation.plan import RoundPlan
from federation.rounds import Together
from tasks.report import checkpoint, round_metrics
from tasks.sums import summary


def reply(exposed):
    plan = RoundPlan(run="r", number=0, cohort=("a", "b", "c"))
    return Together(plan, {}, dict.fromkeys(exposed, "its process ended"), {"a": 8}, {"a": 8}, 2, exposed)


def record(exposed):
    summed = summary(reply(exposed), time.monotonic())
    return {**summed, "overall": {}, "participants": {}, "judged": {}}


def test_a_degraded_round_shows_whose_terms_can_be_inferred():
    metrics = round_metrics([record(()), record(("d", "e"))])
    assert metrics["degraded"] == 1.0
    assert {name for name in metrics if name.endswith("/exposed")} == {
        "participant/d/exposed",
        "participant/e/exposed",
    }
    assert round_metrics([record(())])["degraded"] == 0.0
    assert (metrics["bytes_up"], metrics["bytes_down"]) == (16, 16)  # of both rounds: what a training took


def test_work_that_another_version_kept_is_told_with_what_to_do():
    worked = ({"a": {"seconds": 1.0}, "b": {"seconds": 1.0}}, {}, {"a": {"seconds": 1.0}, "b": {}})
    figures, run = {"cohort": ["a", "b"]}, SimpleNamespace(name="r")
    with pytest.raises(BadInput, match=r"^run r: found work of b that another version .*; start a new run$"):
        checkpoint(0, "validation", {}, worked, figures, {}, run)
