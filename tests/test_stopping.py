import math

import pytest

from federation.stopping import Decision, StopRule, decide


@pytest.mark.parametrize(
    ("history", "rule", "stop", "reason", "best_round"),
    [
        ([], {}, False, "round 0 of at most 5", -1),
        ([0.1, 0.2], {}, False, "round 2 of at most 5", 1),
        ([0.1] * 5, {}, True, "5 rounds, the maximum", 0),
        ([0.1, 0.4], {"target": 0.4}, True, "reached the target 0.4 with 0.4", 1),
        ([0.1, 0.4], {"target": 0.41}, False, "round 2 of at most 5", 1),
        ([0.4, 0.1], {"target": 0.3}, False, "round 2 of at most 5", 0),
        ([0.3, 0.2, 0.3], {"patience": 2}, True, "no gain in 2 rounds", 0),
        ([0.3, 0.2, 0.31], {"patience": 2}, False, "round 3 of at most 5", 2),
        ([0.3, 0.305, 0.309], {"patience": 2, "least_gain": 0.01}, True, "no gain in 2 rounds", 0),
        ([0.3, 0.306, 0.312], {"patience": 2, "least_gain": 0.01}, False, "round 3 of at most 5", 2),
        ([0.25, 0.5], {"patience": 1, "least_gain": 0.25}, False, "round 2 of at most 5", 1),
        (
            [9.0, 8.5, 8.1],
            {"better": "lower", "patience": 2, "least_gain": 1.0},
            True,
            "no gain in 2 rounds",
            0,
        ),
        ([9.0, 7.0, 8.0], {"better": "lower"}, False, "round 3 of at most 5", 1),
        ([9.0, 7.0], {"better": "lower", "target": 7.5}, True, "reached the target 7.5 with 7", 1),
        ([math.nan, math.nan], {"patience": 2, "target": 0.0}, True, "no gain in 2 rounds", -1),
    ],
)
def test_decisions(history, rule, stop, reason, best_round):
    assert decide(history, StopRule(maximum_rounds=5, **rule)) == Decision(stop, reason, best_round)
