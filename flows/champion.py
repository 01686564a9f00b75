"""`chorus promote` and `chorus rollback`: a person decides which registered model is the champion."""

from pathlib import Path

from federation.errors import BadInput
from flows import tables
from flows.consortium import read_consortium
from mlruns_config.champions import Champions
from tasks.runs import all_runs, find_run


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
    _answered(consortium.home, version)
    _show(champions, consortium.home, json)


def _show(champions: Champions, home: Path, json: Path | None) -> None:
    """The history, and where the participants have no model of the champion's run any more, that."""
    tables.show_champions(champions, json)
    run = champions.run()
    if any(each.run == run and not each.rounds for each in all_runs(home)):
        tables.console.print(
            f"Warning: housekeeping has dropped the participants' models of run {run}: their users have no "
            "lists until the next training, which is compared with nothing. See schedule.keep_runs."
        )


def _answered(home: Path, version: int) -> None:
    """Note of the run of `version`, where it waited for a person, that it waits no more."""
    for folder in all_runs(home):
        figures = folder.facts.get("figures", {})
        if folder.facts.get("model_version") == version and figures.get("gate", {}).get("waits"):
            folder.note(figures={**figures, "gate": {**figures["gate"], "promote": True, "waits": False}})


def rollback(path: Path, json: Path | None) -> None:
    """Make the champion before the present one the champion again."""
    consortium = read_consortium(path)
    champions = Champions(consortium.mlflow(), consortium.name)
    if champions.rollback("A person went back to it.") is None:
        now = champions.version()
        present = "no champion yet" if now is None else f"no champion before version {now}"
        raise BadInput(f"{consortium.name}: found {present}, expected one to go back to")
    _show(champions, consortium.home, json)
