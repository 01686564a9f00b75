"""What happens to a vector on its way into a sum, and in reverse to the sum on its way out.

Layers around a sum, as in pfl-research (Granqvist et al. 2024): a list that is validated when it is
made, applied forwards at the participant and backwards to the total.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from federation.channel import Vector
from federation.errors import Refused
from federation.fixed_point import FixedPoint
from federation.masks import Masks
from federation.plan import RoundPlan


class Layer(Protocol):
    """One step between a participant's vector and the words that it sends."""

    def on_participant(self, vector: Vector, plan: RoundPlan) -> Vector:
        """What leaves the participant in place of `vector`."""
        ...

    def on_aggregate(self, vector: Vector, plan: RoundPlan, present: Sequence[str]) -> Vector:
        """What the sum of the terms of `present` means to the layer before."""
        ...


@dataclass(frozen=True)
class Encoded:
    """Real numbers to words of the ring and back."""

    form: FixedPoint

    def on_participant(self, vector: Vector, plan: RoundPlan) -> Vector:
        """Words; raises `Refused` for what the form cannot carry."""
        if not self.form.carries(len(plan.cohort)):
            raise Refused(f"a form for {self.form.terms} terms cannot carry a cohort of {len(plan.cohort)}")
        return self.form.encode(vector)

    def on_aggregate(self, vector: Vector, plan: RoundPlan, present: Sequence[str]) -> Vector:
        """The total in real numbers."""
        return self.form.decode(vector)


@dataclass(frozen=True)
class Masked:
    """Words to words that look random; the masks cancel in the sum of the whole cohort only."""

    masks: Masks

    def on_participant(self, vector: Vector, plan: RoundPlan) -> Vector:
        """Masked words; raises `Refused` if the masks were agreed in another cohort."""
        if self.masks.cohort != plan.cohort:
            raise Refused(f"masks agreed among {self.masks.cohort} do not cancel among {plan.cohort}")
        return self.masks.apply(vector)

    def on_aggregate(self, vector: Vector, plan: RoundPlan, present: Sequence[str]) -> Vector:
        """The sum as it is; raises `Refused` where a term is missing or is there twice."""
        if tuple(present) != plan.cohort:
            raise Refused(f"masks of {list(plan.cohort)} do not cancel in a sum of {sorted(present)}")
        return vector


@dataclass(frozen=True)
class Stack:
    """Layers in the participant's order: any on real numbers, the fixed point, masks or none."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        kinds = [type(layer) for layer in self.layers]
        if kinds.count(Encoded) != 1:
            raise Refused("every update passes the fixed point exactly once")
        if kinds[kinds.index(Encoded) + 1 :] not in ([], [Masked]) or Masked in kinds[: kinds.index(Encoded)]:
            raise Refused("after the fixed point come masks or nothing, and masks come nowhere else")

    def on_participant(self, vector: Vector, plan: RoundPlan) -> Vector:
        """The words that the participant sends."""
        for layer in self.layers:
            vector = layer.on_participant(vector, plan)
        return vector

    def on_aggregate(self, vector: Vector, plan: RoundPlan, present: Sequence[str]) -> Vector:
        """The opened total of the terms of `present`."""
        for layer in reversed(self.layers):
            vector = layer.on_aggregate(vector, plan, present)
        return vector


def stack(form: FixedPoint, masks: Masks | None) -> Stack:
    """The fixed point, then `masks` unless they are off."""
    return Stack((Encoded(form),) if masks is None else (Encoded(form), Masked(masks)))
