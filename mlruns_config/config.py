"""Where MLflow is and under which names it keeps what is told, as `consortium.yaml` says."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_serializer


def without_user(instead: str) -> AfterValidator:
    """Refuses a server's address with a password, since it is shown and stored; `instead`: who takes that."""

    def checked(address: str) -> str:
        if re.match("https?://[^/]*@", address):
            raise ValueError(f"expected a server's address without user and password, which {instead}")
        return address

    return AfterValidator(checked)


Uri = Annotated[str, without_user("MLflow takes from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")]


class TrackingConfig(BaseModel):
    """Where MLflow keeps runs and models, and under which names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: Uri | None = Field(
        default=None, description="MLflow's tracking URI; none: SQLite in the state folder"
    )
    experiment: str = Field(default="chorus", min_length=1, description="name of the experiment")
    registered_model: str | None = Field(
        default=None,
        pattern="""^[^/:'"]+$""",  # MLflow refuses it else, at the end of a training
        description="name of the registered model; none: the consortium's name",
    )

    @field_serializer("uri", when_used="json")
    def _without_password(self, uri: str | None) -> str | None:
        """What Prefect stores of a flow's parameters in clear."""
        return uri and without_password(uri)

    def under(self, folder: Path) -> "TrackingConfig":
        """The same, where the relative path of an SQLite file starts from `folder`."""
        uri = self.uri and re.sub("^sqlite:///(?!/)", lambda _: f"sqlite:///{folder}/", self.uri)
        return self.model_copy(update={"uri": uri})


def without_password(uri: str) -> str:
    """The URI without user, password and query, as it may be told."""
    return re.sub("^([^:]*:(?://)?)[^/].*@", r"\1", uri).partition("?")[0]
