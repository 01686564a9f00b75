from dataclasses import dataclass

import numpy as np
import pytest

from federation.errors import Refused
from federation.fixed_point import FixedPoint
from federation.layers import Encoded, Masked, Stack, stack
from federation.masks import KeyPair, Masks
from federation.plan import RoundPlan

PLAN = RoundPlan(run="r", number=0, cohort=("a", "b", "c"))
FORM = FixedPoint(terms=3)


@dataclass(frozen=True)
class Scaled:
    by: float

    def on_participant(self, vector, plan):
        return vector * self.by

    def on_aggregate(self, vector, plan, present):
        return vector / self.by


def masked(plan=PLAN):
    pairs = {name: KeyPair() for name in plan.cohort}
    publics = {name: pair.public for name, pair in pairs.items()}
    return {name: Masked(Masks(name, pairs[name], publics, plan)) for name in plan.cohort}


def test_layers_are_undone_in_reverse():
    vectors = {name: np.array([0.5, -1.25, number]) for number, name in enumerate(PLAN.cohort)}
    layers = {name: Stack((Scaled(2.0), Scaled(4.0), Encoded(FORM), mask)) for name, mask in masked().items()}
    words = sum(layers[name].on_participant(vectors[name], PLAN) for name in PLAN.cohort)
    total = layers["a"].on_aggregate(words, PLAN, PLAN.cohort)
    np.testing.assert_array_equal(total, sum(vectors.values()))


def test_refuses_what_breaks_a_promise():
    mask, form = masked()["a"], Encoded(FORM)
    for layers in ((mask, form), (form, Scaled(2.0)), (form, mask, Scaled(2.0)), (form, mask, mask)):
        with pytest.raises(Refused, match="after the fixed point"):
            Stack(layers)
    for layers in ((), (mask,), (Scaled(2.0),), (form, form)):
        with pytest.raises(Refused, match="exactly once"):
            Stack(layers)


@pytest.mark.parametrize("present", [("a", "b"), ("a", "b", "c", "c"), ("a", "b", "d"), ()])
def test_masks_refuse_a_sum_of_others_than_the_cohort(present):
    with pytest.raises(Refused, match="do not cancel"):
        stack(FORM, masked()["a"].masks).on_aggregate(np.zeros(2, np.uint64), PLAN, present)


def test_masks_refuse_another_cohort():
    with pytest.raises(Refused, match="do not cancel"):
        stack(FORM, masked()["a"].masks).on_participant(np.zeros(2), PLAN.again(("a", "b")))


def test_a_form_refuses_more_terms_than_it_has_room_for():
    with pytest.raises(Refused, match="2 terms cannot carry a cohort of 3"):
        stack(FixedPoint(terms=2), None).on_participant(np.zeros(2), PLAN)
