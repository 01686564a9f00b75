"""What one participant knows of the consortium it is in: its own part of `consortium.yaml`.

It is written into the participant's folder when a run begins, and is all that its process reads.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from feature_store.cleaning import CleaningRules
from feature_store.sources import Source
from feature_store.splits import Split
from federation.frozen import Frozen
from federation.gate import GateConfig
from federation.policy import RoundPolicy
from tasks.model import ModelConfig


class Disclosures(Frozen):
    """What a participant says of itself alone, to the others and to the tables."""

    rows: bool = Field(
        True,
        description="how many events it has after cleaning, how many are left out, and the cleaning report",
    )
    users: bool = Field(True, description="how many users it has")
    metrics: bool = Field(True, description="its own figures, alone and in the consortium")


class Membership(Frozen):
    """One participant's part in the consortium."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    consortium: str
    source: Source
    test: Source | None = None
    reachable: Path | None = None
    discloses: Disclosures
    cleaning: CleaningRules
    split: Split
    model: ModelConfig
    rounds: RoundPolicy
    gate: GateConfig = GateConfig()
    keep_days: float = 7.0
    cadence_days: float | None = None
    catalogue: Path
    catalogue_grows: bool = Field(False, description="whether each run adds the items that are new")
    participants: Annotated[int, Field(ge=1)]
    seed: int
