"""A participant's own cadence: how often it brings new data to the consortium's trainings.

- It brings new data at the first training when its cadence has passed.
- In between it takes part with what it brought last. So the cohort never changes for a cadence, and every
  participant is in every model.
- The consortium trains at its interval, but not before so many participants have something new as a sum
  may be opened of: what fewer of them brought would be the difference of two sums.
"""

from collections.abc import Mapping

SLACK, SLACK_SECONDS = 0.05, 3_600.0
"""By how much of a cadence, and at most, a training may come early: none begins at the second of the last."""


def brings(own: float | None, last: float | None, now: float) -> bool:
    """Whether a participant brings new data `now`: it never did, or its `own` cadence has passed since.

    A `last` that is still to come was told by a clock that has stepped back since: it does not count.
    """
    return own is None or last is None or not 0 <= now - last < own - min(SLACK * own, SLACK_SECONDS)


def fresh(now: Mapping[str, str], then: Mapping[str, str]) -> list[str]:
    """Who brings another data version `now` than `then`, by participant."""
    return sorted(name for name, version in now.items() if then.get(name) != version)
