"""Before a run: a first consortium.yaml, a look at everybody's data, and the common catalogue."""

import os
import tempfile
from pathlib import Path

from rich.table import Table

from feature_store.catalogue import read_catalogue, union, write_catalogue
from feature_store.cleaning import CleaningReport
from feature_store.errors import BadData
from feature_store.manifest import Manifest
from feature_store.world import generate
from federation.errors import BadInput
from flows.consortium import Consortium, Participant, read_consortium
from flows.tables import console
from tasks.room import Room

TEMPLATE = Path(__file__).with_name("template.yaml")


def write_template(path: Path) -> None:
    """A commented consortium.yaml at `path`; raises `BadInput` where there is a file already."""
    if path.exists():
        raise BadInput(f"{path}: exists already; found a file, expected none (name another path)")
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(TEMPLATE.read_text())
    os.replace(beside, path)
    console.print(f"Wrote {path}. Name your participants and files in it, then: chorus check {path}")


def make_catalogue(path: Path, data: Path | None) -> None:
    """The union of the participants' item ids, where the consortium keeps its catalogue."""
    consortium = _read(path, data)
    if consortium.catalogue is not None:
        raise BadInput(
            f"{path}: catalogue: found {consortium.catalogue}, expected none for a union to be made"
        )
    with tempfile.TemporaryDirectory() as scratch:
        lists = []
        for participant in consortium.participants:
            room = Room(Path(scratch) / participant.name, consortium.membership(participant))
            room.import_all()
            lists.append(room.item_ids())
    write_catalogue(consortium.catalogue_path, union(lists))
    console.print(
        f"{consortium.catalogue_path}: {len(union(lists)):,} items. This is a disclosure: who made it "
        "has seen which items each participant has, and everybody sees which items exist."
    )


def check(path: Path, data: Path | None) -> None:
    """Import and clean everybody's files into a scratch folder, and show what a run would find."""
    consortium = _read(path, data)
    if consortium.catalogue is not None:
        read_catalogue(consortium.catalogue_path)
    table = Table("participant", "rows read", "kept", "dropped, by rule", "from", "to", title=str(path))
    problems = []
    for participant in consortium.participants:
        try:
            manifest = _imported(consortium, participant)
        except BadData as error:
            problems.append(f"{participant.name}: {error}")
            continue
        table.add_row(participant.name, *_cells(manifest))
    console.print(table)
    _warn(consortium)
    if problems:
        raise BadInput("\n".join(problems))
    console.print(f"{path} is ready: chorus run {path}")


def _read(path: Path, data: Path | None) -> Consortium:
    consortium = read_consortium(path, data)
    if consortium.world is not None:
        generate(consortium.world, consortium.data, consortium.names)
    return consortium


def _imported(consortium: Consortium, participant: Participant) -> Manifest:
    with tempfile.TemporaryDirectory() as scratch:
        return Room(Path(scratch), consortium.membership(participant)).import_all()


def _cells(manifest: Manifest) -> list[str]:
    report = manifest.report
    dropped = ", ".join(f"{name} {count:,}" for name, count in _dropped(report) if count)
    times = [(part.first_at, part.last_at) for part in manifest.parts if part.first_at and part.last_at]
    span = [f"{min(times)[0]:%Y-%m-%d}", f"{max(time for _, time in times):%Y-%m-%d}"] if times else ["", ""]
    return [f"{report.rows_read:,}", f"{report.kept:,}", dropped, *span]


def _dropped(report: CleaningReport) -> list[tuple[str, int]]:
    counts = report.model_dump(exclude={"rows_read", "kept"})
    return [(name.replace("_", " "), count) for name, count in counts.items()]


def _warn(consortium: Consortium) -> None:
    hidden = [each.name for each in consortium.participants if not each.discloses.metrics]
    if len(hidden) == 1:
        console.print(
            f"Warning: only {hidden[0]} hides its metrics; the overall figures less everybody else's are "
            "its own. Let another participant hide its metrics too."
        )
