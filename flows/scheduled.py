"""Training as it is deployed: the main job under the lock and on the path of `chorus run`."""

from contextlib import ExitStack
from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, State

from federation.errors import NothingNew, Refused, reasons
from flows.approval import approved
from flows.consortium import read_consortium
from flows.operate import PATIENCE_SECONDS, at_work, mark_crashed
from flows.train import train
from flows.unlisted import unlisted
from tasks.deployments import TRAINING, named
from tasks.lease import outlive_lease
from tasks.order import TrainingOrder
from tasks.straying import strays

outlive_lease()  # before Prefect's engine begins the flow


@flow(name=TRAINING, flow_run_name=named("train"))
def train_on_schedule(order: TrainingOrder) -> State[Any]:
    """Train the consortium of `order`; a retry goes on with the same run, here and at MLflow.

    One training at a time: where another process works on the state, this one waits for it.  With
    nothing new to learn from, it ends early, as Skipped.  Where the gate wants a person's approval, it pauses
    until there is an answer; nothing else is held up.
    """
    consortium = read_consortium(order.consortium, order.data, order.folder)
    if strays(consortium.home):
        return Cancelled(message="no schedule names this moment any more: the schedule was changed")
    run = run_name(str(flow_run.id))
    with ExitStack() as stack:
        try:
            stack.enter_context(at_work(consortium, PATIENCE_SECONDS))
        except Refused as busy:
            return Cancelled(message=str(busy))
        mark_crashed(consortium, but=run)
        try:
            figures = train.fn(consortium, run, order.redo, only_new=not order.always)
        except NothingNew as why:
            return Completed(name="Skipped", message=str(why))
    return ended(approved(figures, consortium))


def run_name(flow_run_id: str) -> str:
    """The name of the run that a flow run trains: the same in every retry."""
    return f"scheduled-{flow_run_id.replace('-', '')[-12:]}"


def ended(figures: dict[str, Any]) -> State[Any]:
    """Completed; named Degraded where somebody was not in a sum, so that an automation can tell."""
    why = figures["gate"]["reason"]
    told = f"run {figures['run']}, registered as version {figures['model_version']}. {why}"
    lost = reasons(figures["lost"])
    told += f" Without {lost}" if lost else ""
    left_out = unlisted(figures["participants"])
    told += f" The catalogue leaves out {left_out}, whose items it does not know." if left_out else ""
    exposed = ", ".join(figures["exposed"])
    told += f" Lost between two sums: {exposed}; these terms can be inferred" if exposed else ""
    return Completed(name="Degraded" if lost or exposed else None, message=told)
