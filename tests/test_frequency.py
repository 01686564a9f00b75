import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from federation.bandit import Bandit
from federation.durations import DAY
from federation.frequency import Drift, FrequencyConfig, Periodic, decide
from federation.observation import Bounds, Costs, Observation, spell, trainings
from federation.plateau import Plateau, loss_rate

NUMBERS = st.none() | st.floats() | st.floats(-1, 1)
SPANS = st.floats(1.0, 400 * DAY)
OBSERVED = st.builds(
    Observation,
    at=st.floats(0, 4e9),
    trained=st.booleans(),
    promoted=st.booleans(),
    interval_seconds=SPANS,
    metric=NUMBERS,
    metric_error=NUMBERS,
    gain=NUMBERS,
    gain_error=NUMBERS,
    drift=NUMBERS,
    unseen=NUMBERS,
    seconds=st.floats(0, 1e6),
)
HISTORIES = st.lists(OBSERVED, max_size=12).map(lambda seen: sorted(seen, key=lambda each: each.at))
POLICIES = st.sampled_from([Plateau, Drift, Bandit]).flatmap(
    lambda kind: st.builds(kind, shortest_days=st.floats(0.04, 10), longest_days=st.floats(10, 400))
)


def life(loss, steps, policy, costs=None, interval=DAY, noise=lambda step: 0.0, unseen=0.02):
    """What a policy decides day by day, where a model of age a loses loss(step) * a of a metric of 1."""
    config, history, state, trained_at, decisions = (
        FrequencyConfig(policy=policy, costs=costs or Costs()), [], {}, 0, []
    )  # fmt: skip
    for step in range(1, steps):
        trained = (step - trained_at) * DAY >= interval - 1
        age, trained_at = step - trained_at, step if trained else trained_at
        history.append(
            Observation(
                at=step * DAY,
                trained=trained,
                interval_seconds=interval,
                metric=1.0 - loss(step) * (step - trained_at),
                metric_error=0.01,
                gain=loss(step) * age + noise(step) if trained else None,
                gain_error=0.01,
                drift=0.0,
                unseen=unseen + loss(step) * (step - trained_at),
            )
        )
        decision = decide(config, history, interval, state)
        interval, state = decision.interval_seconds, decision.state
        decisions.append(interval / DAY)
    return decisions


@settings(max_examples=60)
@given(POLICIES, HISTORIES, SPANS, st.integers(0, 99))
def test_bounds_always_hold_and_the_same_gives_the_same(policy, history, interval, seed):
    config, before = FrequencyConfig(policy=policy), list(history)
    decision = decide(config, history, interval, {}, seed)
    assert policy.shortest <= decision.interval_seconds <= policy.longest_days * DAY
    assert decision == decide(config, tuple(history), interval, {}, seed)
    assert history == before
    assert decision.reason
    assert "\n" not in decision.reason
    assert all(math.isfinite(value) for value in decision.state.values())


@settings(max_examples=30)
@given(HISTORIES, SPANS)
def test_a_decision_made_twice_learns_nothing_twice(history, interval):
    config = FrequencyConfig(policy=Bandit())
    first = decide(config, history, interval)
    again = decide(config, history, interval, first.state)
    assert again.state == first.state


def test_a_training_that_changed_little_does_not_outweigh_those_that_did():
    """Gains of 0 with hardly an error, and of 4 % with a larger one: what they gain on average is lost."""
    gains = [(0.0, 0.0), (0.04, 0.02)] * 50
    history = [
        Observation(
            at=day * DAY, trained=True, interval_seconds=DAY, metric=1.0, gain=gain, gain_error=error
        )
        for day, (gain, error) in enumerate(gains)
    ]  # fmt: skip
    told = trainings(history, Bounds(), Costs())
    assert [each.error for each in told] == pytest.approx([math.sqrt((0.01**2 + 0.02**2) / 2)] * 100)
    assert loss_rate(told, 1.0) == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("policy", [Plateau(), Drift(), Bandit()])
@pytest.mark.parametrize("metric", [None, math.nan, math.inf])
def test_with_nothing_to_observe_the_interval_stays(policy, metric):
    config = FrequencyConfig(policy=policy)
    unseen = Observation(at=1.0, interval_seconds=3 * DAY, metric=metric)
    for history in ((), (unseen,)):
        decision = decide(config, history, 3 * DAY)
        assert decision.interval_seconds == 3 * DAY
        assert decision.reason.endswith("the interval stays")


def test_a_fixed_interval_is_fixed():
    decision = decide(FrequencyConfig(policy=Periodic(days=2)), (), 5 * DAY)
    assert (decision.interval_seconds, decision.reason) == (2 * DAY, "a fixed interval")


@pytest.mark.parametrize("policy", [Plateau(), Drift(unseen=0.01), Bandit()])
def test_what_ages_fast_is_trained_often_and_what_does_not_seldom(policy):
    fast, slow = (life(lambda step, rate=rate: rate, 150, policy)[-30:] for rate in (0.05, 0.0001))
    assert max(fast) <= 3
    assert min(slow) >= 8


@pytest.mark.parametrize("policy", [Plateau(), Drift()])
@pytest.mark.parametrize("rate", [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05])
def test_a_constant_world_does_not_make_the_interval_flap(policy, rate):
    """Gains that alternate by a fifth: the interval settles, but for the drift policy's probes."""
    decided = life(lambda step: rate, 300, policy, noise=lambda step: rate * (-1) ** step / 5)[-100:]
    assert len(set(decided)) <= (2 if isinstance(policy, Drift) else 1)


def test_the_plateau_settles_where_loss_and_cost_are_least():
    """The lot size of Harris: sqrt(2 * 0.02 / 0.0025) = 4 days, within the factor that lets it stay."""
    assert 4 / 1.4 <= life(lambda step: 0.0025, 200, Plateau())[-1] <= 4 * 1.4


def test_dear_trainings_are_rarer():
    cheap, dear = (
        life(lambda step: 0.0025, 200, Plateau(), Costs(training=cost))[-1] for cost in (0.002, 0.1)
    )
    assert cheap <= 3 < 6 <= dear


@pytest.fixture
def calm():
    """Trained every four days, with gains that make this the right interval."""
    return [
        Observation(
            at=step * DAY,
            trained=step % 4 == 0,
            interval_seconds=4 * DAY,
            metric=0.5,
            metric_error=0.01,
            gain=0.005 if step % 4 == 0 else None,
            gain_error=0.001,
            drift=0.01,
            unseen=0.0,
        )
        for step in range(4, 34)
    ]


def test_an_alarm_shortens_the_interval_at_once(calm):
    fallen = calm[-1].model_copy(update={"metric": 0.4, "at": 34 * DAY})
    moved = calm[-1].model_copy(update={"drift": 0.3, "at": 34 * DAY})
    config = FrequencyConfig(policy=Plateau())
    assert decide(config, calm, 4 * DAY).interval_seconds >= 4 * DAY
    for worse, why in ((fallen, "metric fell"), (moved, "stability index rose")):
        decision = decide(config, [*calm, worse], 4 * DAY)
        assert decision.interval_seconds < 4 * DAY
        assert why in decision.reason


@pytest.mark.parametrize(("moved", "times"), [("unseen", 2.0), ("drift", 3.0), ("features", 1.2)])
def test_the_drift_policy_follows_whichever_moved_farthest_of_its_limit(calm, moved, times):
    calm = [each.model_copy(update={"features": 0.1}) for each in calm]
    before = getattr(calm[-2], moved)
    limit = {"unseen": 0.02, "drift": 0.1, "features": 0.25}[moved]
    calm[-1] = calm[-1].model_copy(update={moved: before + times * limit})
    decision = decide(FrequencyConfig(policy=Drift()), calm, 4 * DAY)
    assert decision.interval_seconds == 3 * DAY
    assert decision.reason == f"drift since the training is {times:.1f} times its limit"


@pytest.mark.parametrize(("gain", "borne_out"), [(0.0, False), (0.015, False), (0.05, True)])
def test_an_alarm_is_tested_by_the_training_that_it_asks_for(calm, gain, borne_out):
    """Twice its error is 0.02: what gains less was no staleness, and the interval is what it was, at once."""
    config = FrequencyConfig(policy=Plateau())
    fallen = calm[-1].model_copy(update={"metric": 0.4, "at": 34 * DAY})
    untested = calm[-1].model_copy(update={"at": 35 * DAY, "interval_seconds": DAY})
    tested = untested.model_copy(
        update={"at": 36 * DAY, "trained": True, "metric": 0.4 + gain, "gain": gain, "gain_error": 0.01}
    )
    waiting = decide(config, [*calm, fallen, untested], DAY)
    assert (waiting.interval_seconds, waiting.reason) == (DAY, "the last alarm waits for a training")
    decision = decide(config, [*calm, fallen, untested, tested], DAY)
    assert decision.interval_seconds == (DAY if borne_out else 4 * DAY)


def test_what_was_gained_before_an_alarm_stays_forgotten(calm):
    """While a training of before it is among the last twelve; windows there are more."""
    config = FrequencyConfig(policy=Plateau())
    without = [each.model_copy(update={"gain": each.gain and 0.0}) for each in calm]
    after = [calm[-1].model_copy(update={"metric": 0.4, "at": 34 * DAY})]
    for day in range(35, 60):
        trained = {"trained": day % 2 == 1, "gain": 0.05 if day % 2 else None}
        after.append(calm[-1].model_copy(update={"at": day * DAY, **trained}))
        told = [decide(config, [*before, *after], 4 * DAY) for before in (calm, without)]
        assert told[0] == told[1]


def test_what_a_fresh_model_loses_is_no_alarm(calm):
    trained = calm[-1].model_copy(update={"metric": 0.4, "at": 34 * DAY, "trained": True, "gain": 0.0})
    assert decide(FrequencyConfig(policy=Plateau()), [*calm, trained], 4 * DAY).interval_seconds == 4 * DAY


@pytest.mark.parametrize("policy", [Plateau(), Drift(stability=0.25)])
@pytest.mark.parametrize("promoted", [True, False])
def test_drift_of_a_refused_model_is_not_compared_with_the_champions(calm, policy, promoted):
    """Refused, the older champion goes on, and its drift counts from the next evaluation on."""
    config = FrequencyConfig(policy=policy)
    last = calm[-1]
    calm.append(last.model_copy(update={"at": 34 * DAY, "trained": True, "promoted": promoted, "gain": 0.0}))
    for day, drift in ((35, 0.3), (36, 0.4), (37, 0.6)):
        calm.append(last.model_copy(update={"at": day * DAY, "drift": drift}))
        alarmed = decide(config, calm, 4 * DAY).interval_seconds < 4 * DAY
        assert alarmed == (promoted or day == 37)


def test_costs_are_weighted_by_the_configuration():
    seen = Observation(at=0.0, interval_seconds=1.0, seconds=10, bytes=3e9, epsilon=0.5)
    costs = Costs(training=0.01, second=0.001, gigabyte=0.002, epsilon=0.1)
    assert costs.of(seen) == pytest.approx(0.01 + 0.01 + 0.006 + 0.05)


def test_the_age_of_a_replaced_model_is_the_time_between_two_trainings():
    seen = [
        Observation(at=at * DAY, trained=trained, interval_seconds=DAY, metric=0.5, gain=0.1)
        for at, trained in ((2, True), (3, False), (5, True), (6, True))
    ]
    assert [each.age for each in trainings(seen, Bounds(), Costs())] == [1, 3, 1]


def test_a_training_that_was_not_promoted_leaves_the_champion_its_age():
    seen = [
        Observation(at=at * DAY, trained=True, promoted=promoted, interval_seconds=DAY, metric=0.5, gain=0.1)
        for at, promoted in ((2, True), (3, False), (5, False), (6, True), (7, True))
    ]
    assert [each.age for each in trainings(seen, Bounds(), Costs())] == [1, 1, 3, 4, 1]


def test_intervals_to_choose_from_lie_between_the_bounds():
    assert [each / DAY for each in Bounds().ladder] == [1, 2, 3, 4, 6, 8, 11, 16]
    assert [each / DAY for each in Bounds(shortest_days=7, longest_days=30).ladder] == [7, 14, 21, 28, 30]
    assert Bounds(shortest_days=2, longest_days=2).ladder == (2 * DAY,)
    assert Bounds().climb(4 * DAY, 1) == 6 * DAY
    assert Bounds().within(float("nan")) == DAY
    with pytest.raises(ValidationError, match="less than shortest_days"):
        Bounds(shortest_days=3, longest_days=2)


def test_a_bandit_decides_between_the_widest_bounds_that_it_takes():
    with pytest.raises(ValidationError, match="longest_days is 36525, more than 10,000 shortest_days"):
        Bandit(shortest_days=0.0001, longest_days=36_525)
    config = FrequencyConfig(policy=Bandit(shortest_days=0.01, longest_days=100))
    seen = {"interval_seconds": 100 * DAY, "metric": 1.0, "gain": 0.1, "drift": 0.3, "unseen": 0.3}
    history = [Observation(at=day * DAY, trained=True, **seen) for day in range(0, 3_000, 100)]
    assert 0.01 * DAY <= decide(config, history, DAY).interval_seconds <= 100 * DAY


@pytest.mark.parametrize(
    ("seconds", "text"), [(7 * DAY, "7 d"), (129_600, "1.5 d"), (7200, "2 h"), (90, "1.5 min"), (5, "5 s")]
)
def test_intervals_are_spelled(seconds, text):
    assert spell(seconds) == text
