"""The consortium's common model: solved from the opened sums alone, logged and registered without pickle.

It holds no participant's own part, so it serves anyone, a newcomer without history too.
"""

import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.catalogue import read_catalogue, write_catalogue
from federation.files import write_json
from mlruns_config.figures import bars_figure, gain_figure, gain_table, growth_figure, learning_figure
from recommenders import attention, item_to_item
from recommenders.boosting import State
from recommenders.explain import gains
from tasks import learned
from tasks.grown import history, ranker
from tasks.run import Run

DEFAULT_REGULARISATION = 100.0


def publish(figures: dict[str, Any], run: Run) -> int:
    """Log the run's figures and its common model at MLflow; returns the registered version."""
    run_id = run.folder.facts["mlflow_run_id"]
    versions = {
        name: told["data_version"] for name, told in figures["participants"].items() if told["data_version"]
    }
    run.tracking.log_inputs(run_id, versions, "training")
    run.tracking.log_json(run_id, figures, "figures.json")
    _show_gain(figures, run_id, run)
    if run.model.kind == "two_stage":
        _show_ranker(run_id, run)
    if run.model.kind == "sequence":
        curve = growth_figure(learned.history(run), run.model.metric, "federated rounds")
        run.tracking.log_figure(run_id, curve, "sequence/learning.png")
    folder = pack(figures, run)
    version = run.tracking.register(run_id, folder, run.consortium, {"run": run.name})
    shutil.rmtree(folder)
    return version


def by_arm(
    figures: Mapping[str, Any], metric: str, arms: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """`metric` of each arm by participant, of all users last; none where it is not disclosed."""
    told = {**figures["participants"], "all users": figures["overall"]}
    return {name: {arm: (each.get(arm) or {}).get(metric) for arm in arms} for name, each in told.items()}


def _show_gain(figures: dict[str, Any], run_id: str, run: Run) -> None:
    """What the consortium brings each participant, and how the rounds went."""
    metric = run.model.metric
    ndcg = by_arm(figures, metric, ("alone", "consortium", "reachable"))
    run.tracking.log_figure(run_id, gain_figure(ndcg, metric), "gain.png")
    run.tracking.describe(run_id, gain_table(ndcg, metric))
    curve = {
        record["part"]: {arm: values[metric] for arm, values in record["overall"].items() if metric in values}
        for record in run.folder.rounds
    }
    run.tracking.log_figure(run_id, learning_figure(curve, metric), "learning.png")


def _show_ranker(run_id: str, run: Run) -> None:
    """How the ranker learned, and what it looks at."""
    last = len(run.folder.rounds) - 1
    curve = growth_figure(history(run), run.model.metric, "trees")
    run.tracking.log_figure(run_id, curve, "ranker/learning.png")
    gained = gains(State.model_validate(ranker(last, run)))
    run.tracking.log_figure(run_id, bars_figure(gained, "share of the splits' gain"), "ranker/importance.png")
    looks_at = run.folder.rounds[last]["looks_at"]
    run.tracking.log_figure(run_id, bars_figure(looks_at, "mean |Shapley value|"), "ranker/shapley.png")


def pack(figures: dict[str, Any], run: Run) -> Path:
    """A folder with the catalogue, popularity, weights solved from the last round's sums, and the ranker.

    `ranker.txt` is LightGBM's text, `ranker.json` all that growing it further takes.
    """
    folder = run.folder.path / "model"
    folder.mkdir(parents=True, exist_ok=True)
    last = len(run.folder.rounds) - 1
    catalogue = read_catalogue(run.catalogue)[: run.items]
    write_catalogue(folder / "catalogue.txt", catalogue.to_pylist())
    part = run.folder.part(last)
    counts = run.folder.opened(f"{last}/popularity/{part}").reshape(-1, len(catalogue))
    np.save(folder / "popularity.npy", counts[_window(figures, run)].astype(np.float32))
    if run.model.sums_pairs:
        item_to_item.require_memory(len(catalogue), run.model.memory_gb)
        blocks = range(len(item_to_item.row_blocks(len(catalogue))))
        every = np.arange(len(catalogue), dtype=np.int32)
        opened = (run.folder.opened(f"{last}/gram/{part}/{block}") for block in blocks)
        gram = item_to_item.assemble(opened, len(catalogue), every, run.model.hide_below)
        np.save(folder / "weights.npy", item_to_item.solve(gram, _regularisation(figures, run)))
    if run.model.kind == "sequence":
        _pack_network(folder, run)
    if (grown := ranker(last, run)) is not None:
        write_json(folder / "ranker.json", grown)
        (folder / "ranker.txt").write_text(State.model_validate(grown).text)
    write_json(folder / "model.json", {"kind": run.model.kind, "run": run.name, "items": len(catalogue)})
    return folder


def _window(figures: dict[str, Any], run: Run) -> int:
    """Of a transformer the window that lies in the middle of what the participants chose and disclose."""
    told = [
        (each.get("chosen") or {}).get("consortium_strength") for each in figures["participants"].values()
    ]
    chosen = [int(window) for window in told if window in range(len(run.model.windows))]
    return statistics.median_low(chosen) if run.model.kind == "sequence" and chosen else 0


def _pack_network(folder: Path, run: Run) -> None:
    """The transformer as plain arrays, and the file of code that reads histories by them."""
    for name, array in learned.network(run)._asdict().items():
        np.save(folder / f"{name}.npy", array)
    write_json(folder / "size.json", run.model.sequence.size._asdict())
    shutil.copy(attention.__file__, folder / "attention.py")


def _regularisation(figures: dict[str, Any], run: Run) -> float:
    """The middle of what the participants chose and disclose."""
    if run.model.kind == "two_stage":
        return run.model.two_stage.regularisation
    told = [each.get("chosen") or {} for each in figures["participants"].values()]
    chosen = [each.get("consortium_strength") for each in told]
    chosen = [strength for strength in chosen if strength in run.model.regularisations]
    return float(statistics.median(chosen)) if chosen else DEFAULT_REGULARISATION
