"""A flow run goes on without Prefect's lease on its deployment's one place.

The server takes the lease back when the run pauses, and forgets it when it restarts; Prefect then ends the
run at the next renewal, within four minutes.  The lock on the state folder keeps trainings apart anyway.
"""

from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from prefect import flow_engine
from prefect.concurrency._leases import maintain_concurrency_lease


def outlive_lease() -> None:
    """Flow runs of this process renew their lease as long as there is one, and then go on without."""
    flow_engine.maintain_concurrency_lease = _renewed


def _renewed(lease_id: UUID, seconds: float, **_: Any) -> AbstractContextManager[None]:
    return maintain_concurrency_lease(lease_id, seconds, suppress_warnings=True)
