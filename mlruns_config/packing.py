"""How a recommender is packed for MLflow: a file of code, a catalogue, plain arrays; never a pickle."""

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

    from mlruns_config.tracking import Tracking

CODE = Path(__file__).with_name("model_code.py")
NEEDS = ("mlflow", "numpy", "pydantic")


def log_model(tracking: "Tracking", run_id: str, folder: Path, metadata: Mapping[str, Any]) -> "LoggedModel":
    """Log the model whose arrays lie in `folder` with the run; returns it as MLflow knows it.

    `folder` holds `catalogue.txt`, an item a line; `popularity.npy`, (items,) scores; `model.json`, what it
    is; where there is an item-to-item model `weights.npy`, (items, items) float32; where there is a
    transformer `dense.npy`, `table.npy`, `size.json`, and the code that reads by them.
    """
    from mlflow.entities import LoggedModelOutput

    client = tracking.client
    model = client.create_logged_model(tracking.experiment_id, name="recommender", source_run_id=run_id)
    with tempfile.TemporaryDirectory() as packed:
        _save(model, run_id, folder, Path(packed) / "model", metadata)
        for compiled in [*Path(packed).rglob("__pycache__")]:  # trying the example leaves it
            shutil.rmtree(compiled)
        client.log_model_artifacts(model.model_id, str(Path(packed) / "model"))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def _save(model: "LoggedModel", run_id: str, folder: Path, path: Path, metadata: Mapping[str, Any]) -> None:
    """The packed model at `path`, tried there with its example."""
    import mlflow

    first = (folder / "catalogue.txt").read_bytes().decode().split("\n", 1)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            path=str(path),
            mlflow_model=mlflow.models.Model(
                artifact_path=model.artifact_location,
                model_uuid=model.model_id,
                model_id=model.model_id,
                run_id=run_id,
                metadata=dict(metadata),
            ),
            python_model=str(CODE),
            artifacts={"model": str(folder)},
            input_example=[{"history": [first], "k": 3}],
            pip_requirements=[f"{name}=={version(name)}" for name in NEEDS],
        )
