"""What a deployment is told: where the consortium's file lies, and the few things a person may change.

These are the parameters in Prefect's page; its server refuses any other key.  No rows, no secrets.
"""

from pathlib import Path

from pydantic import Field

from federation.frozen import Frozen


class Order(Frozen):
    """Where the consortium lies on the machine that works."""

    consortium: Path = Field(description="the consortium's file")
    data: Path | None = Field(None, description="folder that the participants' paths start from")
    folder: Path = Field(description="folder that `chorus` was typed in; `state` starts from it")


class TrainingOrder(Order):
    """An order for one training."""

    redo: str | None = Field(
        None, description="a participant whose part of the round under way is done again, in a retry"
    )
    always: bool = Field(False, description="train even where there is nothing new to learn from")
