"""Three participants fit one linear regression in ten rounds and show nothing but masked sums.

Run it with `.venv/bin/python examples/linear_regression.py`.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from federation.averaging import train_round
from federation.channel import Channel
from federation.plan import RoundPlan
from federation.simulate import simulate
from federation.statistics import column_statistics
from recommenders.linear import Examples, Linear, LinearConfig, mean_squared_error, prepare

ROUNDS = 10
FEATURES = 10
ROWS = {"bookshop": 600, "cinema": 250, "radio": 400}
LEARNER = Linear(LinearConfig(features=FEATURES, epochs=2, batch_size=32, learning_rate=0.01))


def generate(plan: RoundPlan, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One participant's rows: features on scales and around means of its own, one truth for all."""
    random = plan.stream("rows", name)
    centre, spread = random.normal(size=FEATURES), random.uniform(0.5, 20.0, FEATURES)
    columns = centre + spread * random.normal(size=(ROWS[name], FEATURES))
    slopes = plan.stream("truth").normal(size=FEATURES) / 10
    return columns, columns @ slopes + 3 + random.normal(scale=0.1, size=ROWS[name])


def standardise(channel: Channel, plan: RoundPlan, name: str) -> Examples:
    """The participant's examples, scaled with the consortium's mean and variance."""
    columns, targets = generate(plan, name)
    return prepare(column_statistics(channel, columns).standardisation, columns, targets)


def take_part(
    channel: Channel, plan: RoundPlan, name: str, parameters: NDArray[np.float64], examples: Examples
) -> tuple[NDArray[np.float64], float]:
    """One round of one participant: the consortium's next parameters and their loss."""
    rng = plan.stream("sgd", name)
    parameters = train_round(LEARNER, parameters, examples, channel, rng, terms=len(plan.cohort))
    return parameters, mean_squared_error(channel, parameters, examples)


def main() -> list[float]:
    """Train, print a table, and return the loss after each round."""
    plan = RoundPlan(run="linear-regression", number=0, cohort=tuple(ROWS), seed=7)
    examples = simulate({name: partial(standardise, plan=plan, name=name) for name in ROWS}, plan)
    parameters, losses = LEARNER.init(plan.seed), []
    print("round  mean squared error")
    for number in range(ROUNDS):
        plan = RoundPlan(run=plan.run, number=number + 1, cohort=plan.cohort, seed=plan.seed)
        parts = {
            name: partial(take_part, plan=plan, name=name, parameters=parameters, examples=examples[name])
            for name in ROWS
        }
        parameters, loss = next(iter(simulate(parts, plan).values()))
        losses.append(loss)
        print(f"{number + 1:5d}  {loss:18.4f}")
    return losses


if __name__ == "__main__":
    main()
