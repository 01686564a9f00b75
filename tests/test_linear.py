import runpy
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from federation.averaging import Averaging, train_round
from federation.channel import Solo
from federation.errors import Refused
from federation.plan import RoundPlan
from federation.simulate import simulate
from federation.statistics import column_statistics
from recommenders.linear import Examples, Linear, LinearConfig, mean_squared_error, predict, prepare, train

EXAMPLE = Path(__file__).parents[1] / "examples" / "linear_regression.py"


def world(rows, seed=0, features=3, noise=0.0):
    random = np.random.default_rng(seed)
    columns = random.normal(size=(rows, features))
    slopes = np.arange(1, features + 1) / 2
    return Examples(columns, columns @ slopes - 1.5 + noise * random.normal(size=rows))


def federate(learner, parts, rounds, stream=lambda name: name, masks=True):
    """The parameters after `rounds` of all `parts`, each with the random stream that `stream` names."""
    state, names = learner.init(0), [f"shop {number}" for number in range(len(parts))]
    for number in range(rounds):
        plan = RoundPlan(run="linear", number=number, cohort=tuple(names))
        jobs = {
            name: partial(
                lambda data, name, channel, plan=plan, state=state: train_round(
                    learner, state, data, channel, plan.stream(stream(name)), len(names)
                ),
                data,
                name,
            )
            for name, data in zip(names, parts, strict=True)
        }
        states = list(simulate(jobs, plan, masks and len(names) > 1).values())
        assert all(np.array_equal(states[0], other) for other in states)
        state = states[0]
    return state


def test_one_participant_is_plain_sgd():
    config, data = LinearConfig(features=3, epochs=2, batch_size=8, learning_rate=0.05), world(50)
    found = federate(Linear(config), [data], rounds=3, stream=lambda name: "sgd")

    slopes, intercept = np.split(np.random.default_rng(0).standard_normal(4), [3])
    for number in range(3):
        rng = RoundPlan(run="linear", number=number, cohort=("alone",)).stream("sgd")
        for _ in range(2):
            order = rng.permutation(50)
            for batch in (order[start : start + 8] for start in range(0, 50, 8)):
                error = data.features[batch] @ slopes + intercept - data.targets[batch]
                slopes = slopes - 0.05 * np.mean(error[:, None] * data.features[batch], axis=0)
                intercept = intercept - 0.05 * np.mean(error)
    resolution = config.averaging.resolution(1, 50)
    assert np.allclose(found, np.append(slopes, intercept), rtol=0, atol=4 * resolution + 1e-14)


@pytest.mark.parametrize("participants", [2, 4])
def test_equal_participants_are_one(participants):
    averaging = Averaging(weighting="equal", bound=16)
    learner, data = Linear(LinearConfig(features=3, averaging=averaging)), world(40)
    alone = federate(learner, [data], rounds=3, stream=lambda name: "sgd")
    together = federate(learner, [data] * participants, rounds=3, stream=lambda name: "sgd")
    assert np.allclose(together, alone, rtol=0, atol=1e-14)


def test_full_batches_weighted_by_rows_are_a_step_on_the_pooled_rows():
    config = LinearConfig(features=3, batch_size=1000, averaging=Averaging(bound=16, most_rows=1000))
    pooled = world(90, noise=1.0)
    parts = [
        Examples(pooled.features[part], pooled.targets[part]) for part in np.split(np.arange(90), [10, 40])
    ]
    found = federate(Linear(config), parts, rounds=1)
    expected = train(Linear(config).init(0), pooled, config, np.random.default_rng(0))
    assert np.allclose(found, expected, rtol=0, atol=config.averaging.resolution(3, 90) + 1e-14)


def test_closed_form_is_reached():
    learner = Linear(LinearConfig(features=3, epochs=3, batch_size=16, learning_rate=0.05))
    parts = [world(rows, seed, noise=0.05) for seed, rows in enumerate((100, 60, 200))]
    found = federate(learner, parts, rounds=15, masks=False)
    design = np.concatenate([part.features for part in parts])
    targets = np.concatenate([part.targets for part in parts])
    expected = np.linalg.lstsq(np.column_stack([design, np.ones(360)]), targets, rcond=None)[0]
    assert np.abs(found - expected).max() < 0.01


def test_training_is_repeated_by_its_seed_and_leaves_the_state_alone():
    config, data = LinearConfig(features=3), world(30)
    before = Linear(config).init(1)
    first = train(before, data, config, np.random.default_rng(5))
    assert np.array_equal(first, train(before, data, config, np.random.default_rng(5)))
    assert np.array_equal(before, Linear(config).init(1))


def test_training_goes_on_from_pretrained_parameters():
    assert Linear(LinearConfig(features=1, pretrained=(2.0, -1.0))).init(9).tolist() == [2.0, -1.0]
    with pytest.raises(Refused, match="expected 3"):
        Linear(LinearConfig(features=2, pretrained=(2.0, -1.0))).init(9)


def test_quality_weighs_by_what_passed_cleaning():
    learner = Linear(LinearConfig(features=3, averaging=Averaging(weighting="quality")))
    data = world(40)
    vector = learner.update(
        learner.init(0), Examples(data.features, data.targets, 0.25), np.random.default_rng(0)
    )
    assert vector[-1] == 10.0


def test_a_participant_without_rows_changes_nothing():
    learner, empty = Linear(LinearConfig(features=3)), Examples(np.zeros((0, 3)), np.zeros(0))
    with_it = federate(learner, [world(40), world(60, 1), empty], rounds=1)
    without = federate(learner, [world(40), world(60, 1)], rounds=1)
    assert np.allclose(with_it, without, rtol=0, atol=1e-9)


def test_loss_is_that_of_the_pooled_rows():
    parts = [world(rows, rows, noise=1.0) for rows in (5, 30, 7)]
    parameters = np.array([0.1, 0.2, 0.3, 0.4])
    plan = RoundPlan(run="linear", number=0, cohort=("a", "b", "c"))
    jobs = {
        name: partial(mean_squared_error, parameters=parameters, data=data)
        for name, data in zip(plan.cohort, parts, strict=True)
    }
    errors = np.concatenate([predict(parameters, part.features) - part.targets for part in parts])
    for found in simulate(jobs, plan).values():
        assert found == pytest.approx(np.mean(errors**2), rel=1e-14)
    assert np.isnan(mean_squared_error(Solo(), parameters, Examples(np.zeros((0, 3)), np.zeros(0))))


def test_missing_features_become_the_mean():
    columns = np.array([[1.0, 5.0], [3.0, np.nan]])
    scaling = column_statistics(Solo(), columns).standardisation
    assert prepare(scaling, columns, np.zeros(2)).features.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    with pytest.raises(Refused, match="2 finite targets"):
        prepare(scaling, columns, np.array([1.0, np.nan]))


def test_example_runs_and_its_loss_falls_every_round(capsys):
    losses = runpy.run_path(str(EXAMPLE))["main"]()
    assert len(losses) == 10
    assert all(after < before for before, after in pairwise(losses))
    assert len(capsys.readouterr().out.splitlines()) == 11
