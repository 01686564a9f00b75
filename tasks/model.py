"""Which recommender the consortium trains, and with which settings."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from federation.durations import LONGEST_DAYS
from federation.frozen import Frozen
from recommenders.sequence import SequenceConfig
from recommenders.two_stage import TwoStage, names


class ModelConfig(Frozen):
    """The recommender; everything that is not fixed here is chosen on each participant's validation part."""

    kind: Literal["two_stage", "item_to_item", "sequence", "popularity"] = Field(
        "two_stage",
        description="what is learned: candidates put in order by LightGBM (needs split temporal), "
        "item-to-item alone, a transformer that reads histories (sequence; needs torch), or popularity, the "
        "baseline that is always reported",
    )
    content: tuple[Annotated[str, Field(pattern="^[A-Za-z0-9_]+$")], ...] = Field(
        (),
        description="columns of embeddings in the file that `content` names, one a modality: each is a "
        "source of candidates and two features in two_stage, and part of what sequence knows of an item",
    )
    two_stage: TwoStage = Field(TwoStage(), description="settings of kind two_stage")
    sequence: SequenceConfig = Field(SequenceConfig(), description="settings of kind sequence")
    top: Annotated[int, Field(ge=1, le=100)] = Field(10, description="k of the metrics at k and of the lists")
    windows: tuple[Annotated[int, Field(ge=1, le=LONGEST_DAYS)], ...] = Field(
        (7, 30, 90, 365, 3650), min_length=1, description="days of history that popularity may count"
    )
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
        min_length=1,
        description="how much of the others' X'X a participant may add to its own; 0 is alone",
    )
    regularisations: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (10.0, 20.0, 50.0, 200.0), min_length=1, description="lambda of EASE (Steck 2019)"
    )
    users_bound: Annotated[int, Field(ge=1)] = Field(
        2**20, description="most users of one participant that one item may have; sets the width of X'X"
    )
    hide_below: Annotated[int, Field(ge=0)] = Field(
        0,
        description="cells of an opened X'X that count fewer users are taken as the own, in the common model "
        "as empty; 0 keeps it exact",
    )
    memory_gb: Annotated[float, Field(gt=0)] = Field(
        20.0, description="GiB that the matrices of solving may take at once; a larger catalogue is refused"
    )

    @property
    def sums_pairs(self) -> bool:
        """Whether X'X is summed, and solved."""
        return self.kind in ("two_stage", "item_to_item")

    @property
    def held(self) -> int:
        """Matrices of weights that a participant holds while it solves: with two stages the own ones."""
        return int(self.kind == "two_stage")

    @property
    def metric(self) -> str:
        """The metric that everything is judged by, as `recommenders.metrics` names it."""
        return f"ndcg_at_{self.top}"

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the ranker's features, in order."""
        return names(self.windows, self.content)

    @property
    def reads_content(self) -> bool:
        """Whether the embeddings of items are of use to it."""
        return self.kind in ("two_stage", "sequence")

    @field_validator("windows", "content")
    @classmethod
    def _each_once(cls, given: tuple[Any, ...], field: ValidationInfo) -> tuple[Any, ...]:
        if len(set(given)) < len(given):
            what = {"windows": "window", "content": "column"}[str(field.field_name)]
            raise ValueError(f"a {what} is named twice in {given}")
        return given
