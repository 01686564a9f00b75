"""Before a run: a first consortium.yaml, and a look at everybody's data."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.table import Table

from feature_store.catalogue import read_catalogue, require_known, union
from feature_store.content import of_catalogue
from feature_store.errors import BadData
from feature_store.manifest import Manifest
from federation.errors import BadInput
from federation.files import replacing
from flows.consortium import Consortium, read_consortium
from flows.data import generate_world
from flows.participant import Participant
from flows.tables import console, figure_columns, typed, typed_file, write_json
from flows.telling import writable
from flows.unlisted import warn_of_unlisted
from tasks.doors import KEY
from tasks.room import Room
from tasks.sequences import require_torch

TEMPLATE = Path(__file__).with_name("template.yaml")
MISSPELT = 0.05
"""Share of a participant's item ids; fewer that others write a little differently are chance."""


def write_template(path: Path) -> None:
    """A commented consortium.yaml at `path`; raises `BadInput` where there is a file already."""
    if path.is_file():
        raise BadInput(f"{path}: exists already; found a file, expected none (name another path)")
    writable(path)
    with replacing(path) as file:
        file.write(TEMPLATE.read_bytes())
    console.print(
        f"Wrote {path}. Name your participants and files in it, then: {typed()} check {typed_file(path)}",
        soft_wrap=True,
    )


def check(path: Path, data: Path | None, json: Path | None = None) -> None:
    """Import and clean everybody's files into a scratch folder, and show what a run would find."""
    consortium = read_consortium(path, data)
    generate_world(consortium)
    consortium.schedule.timing(None)  # a cron line is Prefect's to judge
    if consortium.catalogue is not None:
        read_catalogue(consortium.catalogue_path)
    found, items, problems = {}, {}, []
    here = _here(consortium)
    for participant in here[:1]:  # all of this machine train with what is installed here
        require_torch(participant.name, consortium.model)
    for participant in here:
        try:
            manifest, items[participant.name], unlisted = _imported(consortium, participant)
            found[participant.name] = _facts(manifest, unlisted, participant)
        except BadData as error:
            problems.append(f"{participant.name}: {error}")
    if found:
        _show(path, found)
    _warn(consortium, found)
    _warn_of_strangers(items)
    warn_of_unlisted(found, consortium.catalogue_path)
    write_json(json, {"participants": found})
    if problems:
        raise BadInput("\n".join(problems))
    _show_content(consortium, items)
    _warn_of_lacking(consortium)
    if elsewhere := [each.name for each in consortium.participants if each not in here]:
        console.print(f"On other machines, to be checked there: {', '.join(elsewhere)}", soft_wrap=True)
    file = typed_file(path, data)
    joins = [f"{typed()} join {file} --as {each.name}" for each in here if each.is_remote]
    console.print(f"{path} is ready: {'; '.join(joins) or f'{typed()} run {file}'}", soft_wrap=True)


def _here(consortium: Consortium) -> list[Participant]:
    """Whose events are on this machine: whose key is here; and, but at an organisation, who has none."""
    joined = [
        each.name
        for each in consortium.participants
        if each.is_remote and each.events and (consortium.own_folder(each.name) / KEY).exists()
    ]
    local = [each.name for each in consortium.participants if not each.is_remote]
    if not joined or (consortium.home / "coordinator" / KEY).exists():
        joined += local
    return [each for each in consortium.participants if each.name in joined]


def _imported(consortium: Consortium, participant: Participant) -> tuple[Manifest, set[str], int]:
    """What a run would find, the item ids, and how many events a catalogue leaves out."""
    with tempfile.TemporaryDirectory() as scratch:
        room = Room(Path(scratch), consortium.membership(participant))
        manifest, items = room.import_all(), room.item_ids()
        if consortium.catalogue is None:
            return manifest, set(items), 0
        require_known(items, consortium.catalogue_path)
        return manifest, set(items), room.unlisted()


def _facts(manifest: Manifest, unlisted: int, participant: Participant) -> dict[str, Any]:
    """Rows, cleaning and time range, as far as the participant tells the others."""
    if not participant.discloses.rows:
        return {"rows": None, "unlisted": None, "cleaning": None, "from": None, "to": None}
    spans = [(part.first_at, part.last_at) for part in manifest.parts if part.first_at and part.last_at]
    ends = (f"{min(spans)[0]:%Y-%m-%d}", f"{max(last for _, last in spans):%Y-%m-%d}") if spans else ("", "")
    facts = {"rows": manifest.rows, "unlisted": unlisted, "cleaning": manifest.report.model_dump()}
    return {**facts, "from": ends[0], "to": ends[1]}


def _show(path: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    columns = *figure_columns("participant", "rows read", "kept"), "dropped", "from", "to"
    table = Table(*columns, box=SIMPLE_HEAD, title=str(path), title_justify="left")
    for name, facts in found.items():
        report = dict(facts["cleaning"] or {})
        counts = [f"{report.pop(key):,}" if report else "" for key in ("rows_read", "kept")]
        dropped = ", ".join(f"{rule.replace('_', ' ')} {count:,}" for rule, count in report.items() if count)
        table.add_row(name, *counts, dropped, facts["from"] or "", facts["to"] or "")
    console.print(table)


def _warn(consortium: Consortium, found: Mapping[str, Mapping[str, Any]]) -> None:
    for name, facts in found.items():
        if facts["rows"] == 0:
            console.print(f"Warning: {name} keeps no row; see which rule dropped them, or events.aliases.")
    for what, summed in (("metrics", "overall figures"), ("rows", "count of all events, which sums tell,")):
        hidden = [each.name for each in consortium.participants if not getattr(each.discloses, what)]
        if len(hidden) == 1:
            console.print(
                f"Warning: only {hidden[0]} hides its {what}; the {summed} less everybody else's are its "
                f"own. Let another participant hide its {what} too."
            )


def _show_content(consortium: Consortium, items: Mapping[str, set[str]]) -> None:
    """How many items the content's file tells of, of the catalogue or of those that are had here."""
    path, modalities = consortium.content_path, consortium.model.content
    known = (
        read_catalogue(consortium.catalogue_path)
        if consortium.catalogue
        else pa.array(union(items.values()), pa.string())
    )
    if path is None or not len(known):
        return
    told = of_catalogue(path, modalities, known)
    for name, start, end in zip(modalities, told.starts, told.starts[1:], strict=False):
        count = int(told.vectors[:, start:end].any(axis=1).sum())
        console.print(f"{path}: {count:,} of {len(known):,} items have an embedding {name!r}", soft_wrap=True)


def _warn_of_lacking(consortium: Consortium) -> None:
    """Of certificates that others have not given yet."""
    known = [consortium.coordinator, *consortium.participants]
    files = [each.certificate for each in known if each is not None and each.certificate is not None]
    if lacking := ", ".join(str(file) for file in files if not file.exists()):
        console.print(
            f"Warning: found no {lacking}; ask their owners, who make them with `{typed()} identity`",
            soft_wrap=True,
        )


def _warn_of_strangers(items: Mapping[str, set[str]]) -> None:
    """Of those whose item ids nobody else has, or many of which others write a little differently."""
    held = Counter(chain.from_iterable(items.values()))
    plain = Counter(chain.from_iterable({*map(_plain, own)} for own in items.values()))
    for name, own in items.items():
        alone = [item for item in own if held[item] == 1]
        almost = sum(plain[_plain(item)] > 1 for item in alone)
        if own and len(alone) == len(own) < len(held):
            console.print(
                f"Warning: {name} has no item in common with anybody, and so learns nothing from them. Where "
                "they are the same, their ids are written differently, as 14.0 and 14: see events.aliases."
            )
        elif almost > MISSPELT * len(own):
            console.print(
                f"Warning: {almost:,} items of {name} nobody else has but with other capitals, leading zeros "
                "or .0. Where they are the same, write their ids alike: see events.aliases."
            )


def _plain(item: str) -> str:
    """An id without what programs add to it or take away."""
    return item.strip().casefold().removesuffix(".0").lstrip("0")
