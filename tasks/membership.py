"""What one participant knows of the consortium it is in: its own part of `consortium.yaml`.

It is written into the participant's folder when a run begins, and is all that its process reads.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from feature_store.cleaning import CleaningRules
from feature_store.sources import Source
from feature_store.splits import Split
from federation.errors import BadInput
from federation.frozen import Frozen
from federation.gate import GateConfig
from federation.policy import RoundPolicy
from recommenders.exploration import ExploreConfig
from tasks.model import ModelConfig


class Disclosures(Frozen):
    """What a participant says of itself alone, to the others and to the tables."""

    rows: bool = Field(
        True,
        description="how many events it has after cleaning, how many are left out, and the cleaning report",
    )
    users: bool = Field(True, description="how many users it has")
    metrics: bool = Field(True, description="its own figures, alone and in the consortium")


def _address(text: str) -> str:
    if not re.fullmatch(r"([\w-]{1,63}\.)*[\w-]{1,63}:[0-9]{1,5}", text) or _host_and_port(text)[1] > 65535:
        raise ValueError(f"found {text!r}, expected host:port, with a port up to 65535")
    return text


Address = Annotated[str, AfterValidator(_address)]
"""A host and a port."""


class Coordinator(Frozen):
    """Where participants on other machines find the coordinator, and how they know it."""

    address: Address = Field(description="host:port at which they reach it")
    listen: Address | None = Field(None, description="host:port at which it listens; none: the address")
    certificate: Path = Field(description="its certificate, as `chorus identity` writes it")

    def under(self, folder: Path) -> "Coordinator":
        """The same, where the path of its certificate starts from `folder`."""
        return self.model_copy(update={"certificate": folder / self.certificate})

    @property
    def reached_at(self) -> tuple[str, int]:
        """Host and port for who connects."""
        return _host_and_port(self.address)

    @property
    def listens_at(self) -> tuple[str, int]:
        """Host and port for who listens."""
        return _host_and_port(self.listen or self.address)


class Membership(Frozen):
    """One participant's part in the consortium.

    `certificates` has everybody's by name; none: it runs where the coordinator does.  Of others the
    coordinator knows no `source`.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    consortium: str
    source: Source | None
    test: Source | None = None
    reachable: Path | None = None
    discloses: Disclosures
    cleaning: CleaningRules
    split: Split
    model: ModelConfig
    rounds: RoundPolicy
    gate: GateConfig = GateConfig()
    explore: ExploreConfig = ExploreConfig()
    keep_days: float = 7.0
    cadence_days: float | None = None
    catalogue: Path
    catalogue_grows: bool = Field(False, description="whether each run adds the items that are new")
    content: Path | None = None
    participants: Annotated[int, Field(ge=1)]
    seed: int
    certificates: dict[str, Path | None] = Field(default_factory=dict)
    coordinator: Coordinator | None = None

    @property
    def certificate(self) -> Path | None:
        """Its certificate; none where it runs where the coordinator does."""
        return self.certificates.get(self.name)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The embeddings that its file of the items' content has."""
        return self.model.content if self.content is not None else ()

    @property
    def agreed(self) -> dict[str, Any]:
        """What all participants have alike, by key of the consortium's file."""
        alike = self.model_dump(
            mode="json", include={"cleaning", "split", "model", "explore", "rounds", "seed"}
        )
        named = {"name": self.consortium, "participants": sorted(self.certificates)}
        return dict(each_setting({**named, **alike}))

    def require_agreed(self, told: Mapping[str, Any]) -> None:
        """Raise `BadInput` where the coordinator has `told` of another value of a key than its own."""
        own = self.agreed
        for key in sorted(own.keys() | told.keys()):
            found, expected = own.get(key), told.get(key)
            if found != expected:
                raise BadInput(
                    f"{self.name}: its own file has {key}: {found}, the coordinator's {expected}; expected "
                    "the same in both"
                )


def each_setting(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its key in the consortium's file."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from each_setting(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
