"""Alone, in the consortium and pooled, on the same split: one table, one plot."""

from typing import Any

from prefect import flow

from flows.consortium import Consortium
from flows.train import train
from tasks.pooled import pool, report
from tasks.runs import find_run


@flow(name="compare", flow_run_name="compare {consortium.name}, {run}")
def compare(consortium: Consortium, run: str, redo: str | None = None) -> dict[str, Any]:
    """Train as usual, then once more on everybody's rows in one place; returns the figures of all arms."""
    figures = train(consortium=consortium, run=run, redo=redo)
    folder = find_run(consortium.home, run)
    compared = pool(consortium.home, consortium.memberships, figures, folder)
    report(compared, consortium.mlflow(), folder, consortium.model.metric)
    return compared
