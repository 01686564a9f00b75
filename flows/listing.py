"""`chorus runs`: every run of a consortium, what has become of it, and which model is the champion."""

from pathlib import Path

from flows import tables
from flows.consortium import Consortium, read_consortium
from flows.operate import CRASHED, SILENCE_SECONDS, within_silence
from mlruns_config.champions import Champions
from tasks import locks
from tasks.runs import all_runs


def list_runs(path: Path, json: Path | None) -> None:
    """The runs of the consortium, oldest first; of one whose process is gone, that it has crashed."""
    consortium = read_consortium(path)
    # Before the runs are read: one that begins meanwhile has not crashed.
    works = locks.user(consortium.home)
    told = [folder.facts for folder in all_runs(consortium.home)]
    for each in told:
        if each.get("status") == "running" and (works is None or each.get("process", works) != works):
            each.update(CRASHED)
    trained = any("model_version" in each for each in told)
    champion, trouble = _champion(consortium) if trained else (None, None)
    tables.show_runs(told, champion, json)
    if trouble is not None:
        tables.console.print(f"Which model is the champion is not known: {trouble}", highlight=False)


def _champion(consortium: Consortium) -> tuple[str | None, str | None]:
    """The run whose model is the champion, or why that is not known."""
    heard = list[tuple[str | None, str | None]]()

    def ask() -> None:
        try:
            heard.append((Champions(consortium.mlflow(), consortium.name).run(), None))
        except Exception as error:  # the runs are listed all the same
            heard.append((None, str(error)))

    within_silence(ask)
    return heard[0] if heard else (None, f"MLflow does not answer within {SILENCE_SECONDS:g} s")
