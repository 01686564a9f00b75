"""How a recommender is packed for MLflow: a file of code, a catalogue, plain arrays; never a pickle."""

import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlruns_config.tracking import Tracking

CODE = Path(__file__).with_name("model_code.py")
NEEDS = ("mlflow", "numpy", "pydantic")


def log_model(tracking: "Tracking", run_id: str, folder: Path, metadata: Mapping[str, Any]) -> str:
    """Log the model whose arrays lie in `folder` with the run; returns its URI."""
    import mlflow

    mlflow.set_tracking_uri(tracking.uri)
    first = (folder / "catalogue.txt").read_text().split("\n", 1)[0]
    with warnings.catch_warnings(), mlflow.start_run(run_id=run_id):
        warnings.simplefilter("ignore")
        logged = mlflow.pyfunc.log_model(
            name="recommender",
            python_model=str(CODE),
            artifacts={"model": str(folder)},
            input_example=[{"history": [first], "k": 3}],
            pip_requirements=[f"{name}=={version(name)}" for name in NEEDS],
            metadata=dict(metadata),
        )
    return str(logged.model_uri)
