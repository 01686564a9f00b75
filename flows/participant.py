"""One organisation of the consortium, as `consortium.yaml` names it."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from feature_store.sources import Source
from federation.durations import Days
from federation.frozen import Frozen
from federation.gate import Share
from tasks.membership import Disclosures


class Participant(Frozen):
    """Where its events lie, or how it is known where it connects from another machine."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="lower-case letters, digits, -")]
    events: Source | None = Field(
        None,
        description="its event files, and how their columns map; needed where it runs",
    )
    certificate: Path | None = Field(
        None, description="its certificate, from the file's folder, where it connects from another machine"
    )
    test: Source | None = Field(None, description="its test events, for the split `given`")
    reachable: Path | None = Field(None, description="the true best lists, where a generator knows them")
    discloses: Disclosures = Field(Disclosures(), description="what it says of itself alone")
    tolerance: Share | None = Field(
        None, description="share of the champion's NDCG that it may lose by a promotion; none: gate.tolerance"
    )
    cadence_days: Days | None = Field(
        None, description="days between two times that it brings new events; none: at every training"
    )

    @model_validator(mode="after")
    def _is_somewhere(self) -> "Participant":
        if self.events is None and not self.is_remote:
            raise ValueError(
                "events: found none, expected its event files; or, where it connects from another machine, "
                "its certificate"
            )
        return self

    @property
    def is_remote(self) -> bool:
        """Whether it connects from another machine."""
        return self.certificate is not None

    def under(self, folder: Path) -> "Participant":
        """The same, where the path of its certificate starts from `folder`."""
        return self.model_copy(update={"certificate": self.certificate and folder / self.certificate})
