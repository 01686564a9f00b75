import time

from federation.plan import RoundPlan
from federation.rounds import Together
from tasks.report import round_metrics
from tasks.sums import summary


def reply(exposed):
    plan = RoundPlan(run="r", number=0, cohort=("a", "b", "c"))
    return Together(plan, {}, dict.fromkeys(exposed, "its process ended"), {"a": 8}, {"a": 8}, 2, exposed)


def record(exposed):
    summed = summary(reply(exposed), time.monotonic())
    return {**summed, "overall": {}, "participants": {}, "judged": {}}


def test_a_degraded_round_shows_whose_terms_can_be_inferred():
    metrics = round_metrics(record(("d", "e")))
    assert metrics["degraded"] == 1.0
    assert {name for name in metrics if name.endswith("/exposed")} == {
        "participant/d/exposed",
        "participant/e/exposed",
    }
    assert round_metrics(record(()))["degraded"] == 0.0
