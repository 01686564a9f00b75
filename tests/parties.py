"""Participants that are threads of one process, for the tests of what they compute together."""

from functools import partial

import numpy as np
from hypothesis import strategies as st

from federation.plan import RoundPlan
from federation.simulate import simulate


def together(job, parts, number=0):
    """What `job(part, channel)` gives each of the participants, who hold a part each."""
    plan = RoundPlan(run="test", number=number, cohort=tuple(f"p{rank:02}" for rank in range(len(parts))))
    jobs = {name: partial(job, part) for name, part in zip(plan.cohort, parts, strict=True)}
    return [*simulate(jobs, plan).values()]


def agreed(job, parts, number=0):
    """What it gives all of them alike."""
    first, *others = together(job, parts, number)
    assert all(other == first for other in others)
    return first


def dealt(rows, data, parties=3):
    """The rows among participants, as they are drawn from `data`."""
    owners = np.array([data.draw(st.integers(0, parties - 1)) for _ in rows], np.int64)
    return [rows[owners == owner] for owner in range(parties)]
