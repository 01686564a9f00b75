"""Evaluation as it is deployed: how the champion does on the newest window, for the policies of frequency."""

from contextlib import ExitStack
from typing import Any

from prefect import flow
from prefect.states import Cancelled, Completed, State

from federation.errors import NothingNew, Refused, reasons
from flows.consortium import read_consortium
from flows.operate import PATIENCE_SECONDS, at_work
from tasks.deployments import named
from tasks.evaluation import evaluate_champion
from tasks.order import Order


@flow(name="evaluate-champion", flow_run_name=named("evaluate"))
def evaluate(order: Order) -> State[Any]:
    """Evaluate the champion on the newest window of everybody's data, as sums; nothing is trained.

    It waits for a training under way.  Where the data are those of the last time, it ends early, as Skipped.
    """
    consortium = read_consortium(order.consortium, order.data, order.folder)
    with ExitStack() as stack:
        try:
            stack.enter_context(at_work(consortium, PATIENCE_SECONDS))
        except Refused as busy:
            return Cancelled(message=str(busy))
        try:
            found = evaluate_champion(consortium.home, consortium.memberships, consortium.settings())
        except NothingNew as why:
            return Completed(name="Skipped", message=str(why))
    metric = consortium.model.metric
    value = found["figures"].get(metric)
    figure = "nobody has a user to ask about" if value is None else f"{metric} {value:.4f}"
    told = f"champion of run {found['champion']}: {figure}"
    if missing := reasons(found["lost"]):
        return Completed(name="Degraded", message=f"{told}. Without {missing}")
    return Completed(message=told)
