"""Which registered version is the champion: an alias, and a history of how it came there in tags.

Each change is a tag `chorus.champion.<number>` of the registered model, and tags of the trainings' runs, all
written before the alias moves: what was interrupted in between is done by doing it again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from mlruns_config.tracking import CHAMPION, RUN_TAG, Tracking

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

TAG = "chorus.champion."
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow says of what is not there, or was deleted."""


class Change(BaseModel):
    """One change of the champion: to `version`, from `before` (none: there was none), and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["promotion", "rollback"]
    version: int
    before: int | None
    at: datetime
    reason: str


class Champions:
    """The champions of one registered model."""

    def __init__(self, tracking: Tracking, name: str) -> None:
        self.client = tracking.client
        self.name = tracking.config.registered_model or name

    def version(self) -> int | None:
        """The champion's version; none where there is no champion."""
        found = self._aliased()
        return None if found is None else int(found.version)

    def run(self, version: int | None = None) -> str | None:
        """The run that trained `version`, the champion's without one; none where there is none."""
        found = self._aliased() if version is None else self.client.get_model_version(self.name, str(version))
        if found is None:
            return None
        return str(found.tags.get(RUN_TAG) or self.client.get_run(found.run_id).data.tags[RUN_TAG])

    def standing(self) -> list[str]:
        """The runs of the champion and of the one that a rollback would go back to, where there are any."""
        versions = {self.version(), *self._standing(self.changes())[-2:]} - {None}
        return [run for run in map(self.run, sorted(filter(None, versions))) if run is not None]

    def versions(self) -> list[int]:
        """The numbers of all registered versions, ascending."""
        return sorted(
            int(each.version) for each in self.client.search_model_versions(f"name = '{self.name}'")
        )

    def trained_by(self, run_id: str) -> int | None:
        """The version that the run with this id at MLflow registered, if any."""
        found = self.client.search_model_versions(f"name = '{self.name}' and run_id = '{run_id}'")
        return int(found[0].version) if found else None

    def changes(self) -> list[Change]:
        """All changes so far, oldest first."""
        if not self.client.search_registered_models(f"name = '{self.name}'"):
            return []
        tags = self.client.get_registered_model(self.name).tags
        return [Change.model_validate_json(tags[key]) for key in sorted(tags) if key.startswith(TAG)]

    def promote(self, version: int, reason: str) -> None:
        """Make `version` the champion; one that is it already stays so, without a new record."""
        self._change("promotion", version, reason)

    def rollback(self, reason: str) -> int | None:
        """Make the one before the present champion it again; returns its version, none without one.

        Versions that were deleted at MLflow are passed over.
        """
        changes = self.changes()
        standing, last = self._standing(changes), stack(changes)[-1:]
        interrupted = changes and changes[-1].kind == "rollback" and [self.version()] != last
        if interrupted or last != standing[-1:]:
            standing.append(0)  # it is done now, not another; or it was the champion that is deleted
        if len(standing) < 2:
            return None
        self._change("rollback", standing[-2], reason)
        return standing[-2]

    def judge(self, version: int, verdict: str) -> None:
        """Note at `version` what the gate said of it."""
        self.client.set_model_version_tag(self.name, str(version), "chorus.verdict", verdict[:5000])

    def _standing(self, changes: Sequence[Change]) -> list[int]:
        """The champions that a rollback can go back through, less those that are no more at MLflow.

        One that was promoted again after another, which is gone, stands there once.
        """
        known = {*self.versions()} if changes else set()
        return [version for version, _ in groupby(each for each in stack(changes) if each in known)]

    def _aliased(self) -> "ModelVersion | None":
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version_by_alias(self.name, CHAMPION)
        except MlflowException as error:
            if error.error_code in GONE:
                return None
            raise

    def _change(self, kind: Literal["promotion", "rollback"], version: int, reason: str) -> None:
        before, known = self.version(), self.changes()
        if stack(known)[-1:] != [version]:
            change = Change(
                kind=kind, version=version, before=before, at=datetime.now(UTC), reason=reason[:2000]
            )
            key = f"{TAG}{len(known) + 1:06}"
            self.client.set_registered_model_tag(self.name, key, change.model_dump_json())
        self._tell(version, True, reason)
        if before is not None and before > version:  # policies count ages from the last that is promoted
            self._tell(before, False, f"Left for version {version}: {reason}")
        if before != version:
            self.client.set_registered_model_alias(self.name, CHAMPION, str(version))

    def _tell(self, version: int, promoted: bool, verdict: str) -> None:
        """In tags of the version, and of its run, where that was not deleted."""
        from mlflow.exceptions import MlflowException

        self.judge(version, verdict)
        run_id = self.client.get_model_version(self.name, str(version)).run_id
        try:
            self.client.set_tag(run_id, "chorus.promoted", str(promoted).lower())
            self.client.set_tag(run_id, "chorus.verdict", verdict[:5000])
        except MlflowException as error:
            if error.error_code not in GONE:
                raise


def stack(changes: Sequence[Change]) -> list[int]:
    """The champions that a rollback can go back through, the present one last."""
    standing: list[int] = []
    for each in changes:
        if not standing and each.before is not None:
            standing = [each.before]
        standing = standing[:-1] if each.kind == "rollback" else [*standing, each.version]
        while standing and standing[-1] != each.version:  # passed over, since deleted
            standing.pop()
    return standing
