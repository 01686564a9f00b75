"""What a store knows of one organisation's data: its parts, where they came from, and what was cleaned away.

The manifest is the commit point of an import: a part that it does not name is not there.
"""

import hashlib
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from feature_store.cleaning import CleaningReport
from feature_store.errors import BadData
from feature_store.replacing import replace

FILE_NAME = "manifest.json"
HISTORY = "manifests"


class Part(BaseModel):
    """One immutable Parquet file of one month."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    month: str = Field(description="YYYY-MM, or none for events without times")
    file: str = Field(description="path below the organisation's folder")
    rows: int = Field(ge=1, description="events in it")
    content_hash: str = Field(description="SHA-256 of the file")
    first_at: datetime | None = Field(description="its earliest event; none without times")
    last_at: datetime | None = Field(description="its latest event; none without times")
    import_number: int = Field(ge=0, description="which of the manifest's imports wrote it")


class Import(BaseModel):
    """One call of `import_events` that found new files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, str] = Field(description="SHA-256 of each file that was read, and its name")
    settings: str = Field(description="SHA-256 of how they were read and cleaned")
    report: CleaningReport = Field(description="what was kept and what was not")
    months: dict[str, CleaningReport] = Field(description="the same by month; none: without a possible time")


class Manifest(BaseModel):
    """The data of one organisation at one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(description="hash over the parts: equal data, equal version")
    rows: int = Field(ge=0, description="events in all parts")
    parts: tuple[Part, ...] = Field(description="in order of their coming")
    imports: tuple[Import, ...] = Field(description="in order of their coming")
    next_sequence: int = Field(ge=0, description="the sequence number of the next row that is read")

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if self.version != version_of(self.parts) or self.rows != sum(part.rows for part in self.parts):
            raise ValueError("version or rows do not follow from the parts")
        return self

    @property
    def report(self) -> CleaningReport:
        """The cleaning of all imports together."""
        return sum((done.report for done in self.imports), CleaningReport())

    def with_import(self, done: Import, parts: tuple[Part, ...]) -> "Manifest":
        """The manifest after one more import that wrote `parts`."""
        parts = self.parts + parts
        return Manifest(
            version=version_of(parts),
            rows=sum(part.rows for part in parts),
            parts=parts,
            imports=(*self.imports, done),
            next_sequence=self.next_sequence + done.report.rows_read,
        )


def version_of(parts: tuple[Part, ...]) -> str:
    """64 hex digits that change when, and only when, the parts do."""
    return hashlib.sha256(
        "".join(f"{part.file} {part.content_hash}\n" for part in parts).encode()
    ).hexdigest()


def read_manifest(folder: Path, version: str | None = None) -> Manifest:
    """The manifest at an organisation's `folder`, now or at `version`; empty where nothing was imported."""
    path = folder / FILE_NAME if version is None else folder / HISTORY / f"{version}.json"
    known = sorted(found.stem for found in (folder / HISTORY).glob("*.json"))
    if version is not None and version not in known:  # a coordinator names it: it must not lead out
        raise BadData(
            f"{folder}: found no version {version!r}, expected one of {', '.join(known) or 'none yet'}"
        )
    if not path.is_file():
        return Manifest(version=version_of(()), rows=0, parts=(), imports=(), next_sequence=0)
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadData(f"{path}: expected a manifest of this store", error) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Keep `manifest` in the history, then make it the current one."""
    (folder / HISTORY).mkdir(mode=0o700, exist_ok=True)
    for path in (folder / HISTORY / f"{manifest.version}.json", folder / FILE_NAME):
        replace(path, manifest.model_dump_json(indent=1).encode(), mode=0o600)
