"""`chorus promote` and `chorus rollback`: a person decides which registered model is the champion."""

from pathlib import Path

from federation.errors import BadInput
from flows import tables
from flows.consortium import read_consortium
from mlruns_config.champions import Champions
from tasks.runs import find_run


def promote(which: str, path: Path, json: Path | None) -> None:
    """Make a version, by its number or by the run that trained it, the champion, whatever the gate said."""
    consortium = read_consortium(path)
    champions = Champions(consortium.mlflow(), consortium.name)
    if which.isdecimal():
        version = {str(each): each for each in champions.versions()}.get(which)
    else:
        version = champions.trained_by(find_run(consortium.home, which).facts["mlflow_run_id"])
    if version is None:
        known = ", ".join(map(str, champions.versions())) or "none yet"
        raise BadInput(f"'{which}': found no such version, nor one of that run; expected one of: {known}")
    champions.promote(version, "A person promoted it.")
    tables.show_champions(champions, json)


def rollback(path: Path, json: Path | None) -> None:
    """Make the champion before the present one the champion again."""
    consortium = read_consortium(path)
    champions = Champions(consortium.mlflow(), consortium.name)
    if champions.rollback("A person went back to it.") is None:
        now = champions.version()
        present = "no champion yet" if now is None else f"no champion before version {now}"
        raise BadInput(f"{consortium.name}: found {present}, expected one to go back to")
    tables.show_champions(champions, json)
