"""Runs, metrics and models at MLflow, by explicit run ids; a rerun goes on in the same run.

Nothing happens on import; MLflow itself is imported when it is first spoken to.
"""

import fcntl
import json
import logging
import math
import subprocess
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlruns_config.config import TrackingConfig, without_password

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

RUN_TAG = "chorus.run"
NOTE = "mlflow.note.content"
CHAMPION = "champion"
ABOUT = """The common models, of sums alone: item-to-item or popularity, for anybody's history of items.
Figures of their runs are of the lists of participants' own models, not of these."""
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


class NoTracking(Exception):
    """MLflow cannot be used; the message names where it was looked for, without password, and why."""

    exit_code = 1


class Tracking:
    """MLflow as one consortium uses it; safe to call from several threads."""

    def __init__(self, config: TrackingConfig, home: Path) -> None:
        self.config = config
        self.folder = home / "mlflow"
        self._began: dict[str, int] = {}
        self._note: dict[str, str] = {}

    @property
    def uri(self) -> str:
        """The tracking URI in use."""
        return self.config.uri or f"sqlite:///{self.database}"

    @property
    def database(self) -> Path:
        """Where its own store is, of who configures no other."""
        return self.folder / "mlflow.db"

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client; the SQLite store is made when it is first asked for.

        Raises `NoTracking` where the store cannot be opened or does not answer.
        """
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        if self.config.uri is None:
            self._make_store()
        return self._opened(self.uri)

    def _make_store(self) -> None:
        """The SQLite store, by one process, beside and renamed: MLflow does not mend half a one."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.database.exists():
                with TemporaryDirectory(dir=self.folder) as beside:
                    made = Path(beside) / self.database.name
                    self._opened(f"sqlite:///{made}")
                    made.rename(self.database)

    def _opened(self, uri: str) -> "MlflowClient":
        import mlflow

        try:
            client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
        except OSError:
            raise
        except Exception as error:  # MLflow's, a database's, its driver's, or that there is no driver
            raise NoTracking(self._trouble(error)) from None
        return client

    def _trouble(self, error: Exception) -> str:
        """Why the store cannot be used, in a line; MLflow's own messages repeat the URI with its password."""
        shown = without_password(self.uri)
        why = (str(error).strip() or type(error).__name__).replace(self.uri, shown).split("\n")[0][:300]
        return f"tracking.uri: found {shown}, expected a store of MLflow's that can be opened: {why}"

    @cached_property
    def experiment_id(self) -> str:
        """The experiment, made if there is none of its name; raises `NoTracking` where it was deleted."""
        found = self.client.get_experiment_by_name(self.config.experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            raise NoTracking(
                f"tracking.experiment: found '{found.name}', which was deleted at MLflow; expected one in "
                f"use: name another, or restore it (mlflow experiments restore -x {found.experiment_id})"
            )
        if found is not None:
            return str(found.experiment_id)
        # Else MLflow takes the working folder, which a worker drops after a run; servers have a place.
        place = (self.folder / "artifacts").as_uri() if self.uri.startswith(DATABASES) else None
        tags = {"mlflow.experimentKind": "custom_model_development"}  # else its pages are those of chat logs
        return str(self.client.create_experiment(self.config.experiment, artifact_location=place, tags=tags))

    def start_or_continue(
        self, run: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        """The id of MLflow's run for `run`: the one that exists, running again, or a new one.

        Params that the run has already stay as they are; values are cut at 5,000 characters.
        """
        from mlflow.entities import Param

        found = self.client.search_runs([self.experiment_id], f"tags.`{RUN_TAG}` = '{run}'", max_results=1)
        if found:
            one = found[0]
            self.client.update_run(one.info.run_id, status="RUNNING")
            self.tag(one.info.run_id, tags)
        else:
            source = {"mlflow.source.name": "chorus", "mlflow.source.type": "LOCAL", **_commit()}
            first = {RUN_TAG: run, "chorus.version": version("chorus-recommender"), **source, **tags}
            one = self.client.create_run(self.experiment_id, tags=first, run_name=name)
        run_id, known = str(one.info.run_id), one.data.params
        self._began[run_id], self._note[run_id] = one.info.start_time, tags.get(NOTE, "")
        missing = [Param(key, str(value)[:5000]) for key, value in params.items() if key not in known]
        self.client.log_batch(run_id, params=missing)
        return run_id

    def log_inputs(self, run_id: str, versions: Mapping[str, str], use: str) -> None:
        """Each participant's data version as a dataset that the run had for a use; nothing of its content."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(name, digest[:36], "local", json.dumps({"participant": name})),
                [InputTag("mlflow.data.context", use)],
            )
            for name, digest in versions.items()
        ]
        if inputs:
            self.client.log_inputs(run_id, datasets=inputs)

    def log_metrics(self, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
        """The metrics of a step; told again, as after a crash in between, they are not repeated.

        MLflow merges equal rows: so timestamps follow from the step, and the same step has the same
        figures, those of its checkpoint.  NaN and infinities are left out.
        """
        from mlflow.entities import Metric

        began = self._began[run_id]
        batch = [
            Metric(name, float(value), began + step, step)
            for name, value in sorted(metrics.items())
            if math.isfinite(value)
        ]
        for start in range(0, len(batch), 1000):
            self.client.log_batch(run_id, metrics=batch[start : start + 1000])

    def log_figure(self, run_id: str, figure: "Figure", path: str) -> None:
        """A figure as an artifact of the run."""
        self.client.log_figure(run_id, figure, path)

    def log_json(self, run_id: str, value: Any, path: str) -> None:
        """A value as a JSON artifact of the run."""
        self.client.log_dict(run_id, value, path)

    def describe(self, run_id: str, text: str) -> None:
        """Markdown below the note with which the run was started."""
        self.client.set_tag(run_id, NOTE, f"{self._note[run_id]}\n\n{text}".strip())

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Tags of the run."""
        for key, value in tags.items():
            self.client.set_tag(run_id, key, value[:5000])

    def is_finished(self, run: str) -> bool:
        """Whether MLflow has a finished run for `run`."""
        asked = f"tags.`{RUN_TAG}` = '{run}' and attributes.status = 'FINISHED'"
        return bool(self.client.search_runs([self.experiment_id], asked, max_results=1))

    def finish(self, run_id: str, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status)

    def champion(self, name: str) -> Callable[[list[dict[str, Any]]], list[Any]]:
        """The registered champion as a function from queries to answers.

        Raises `NoTracking` where its files are not where MLflow has them.
        """
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        champion = f"models:/{self.config.registered_model or name}@{CHAMPION}"
        try:
            loaded = mlflow.pyfunc.load_model(champion)
        except (mlflow.exceptions.MlflowException, OSError) as error:
            place = self.client.get_experiment(self.experiment_id).artifact_location
            raise NoTracking(
                f"{champion}: {error}; expected its files where MLflow has them, in {place}"
            ) from None
        return loaded.predict  # type: ignore[no-any-return]

    def register(self, run_id: str, folder: Path, name: str, metadata: Mapping[str, Any]) -> int:
        """Log the packed model in `folder` with the run and register it; returns its version.

        A run that is continued after it had registered its model keeps that version.
        """
        import mlflow

        from mlruns_config.packing import log_model

        # A SQL registry looks logged models up there, whatever its client was told.
        mlflow.set_tracking_uri(self.uri)
        name = self.config.registered_model or name
        if not self.client.search_registered_models(f"name = '{name}'"):
            asked = f"mlflow.pyfunc.load_model('models:/{name}@{CHAMPION}').predict([{{'history': [...]}}])"
            told = f"{ABOUT} Ask the champion: `{asked}`"
            self.client.create_registered_model(name, description=told)
        known = list(self.client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"))
        if not known:
            model = log_model(self, run_id, folder, metadata)
            tags = {RUN_TAG: self.client.get_run(run_id).data.tags[RUN_TAG]}  # which outlive a deleted run
            source = {"run_id": run_id, "model_id": model.model_id}  # a server asks for both
            known = [self.client.create_model_version(name, model.model_uri, tags=tags, **source)]
        return int(known[0].version)


def _commit() -> dict[str, str]:
    """The commit of the code that runs, where it runs from a checkout of its own."""
    root = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return {}
    told = asked.stdout.splitlines()
    # Installed below somebody's repository, git would tell that one's commit.
    own = asked.returncode == 0 and Path(told[0]).resolve() == root
    return {"mlflow.source.git.commit": told[1]} if own else {}
