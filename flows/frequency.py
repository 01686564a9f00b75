"""How often to train, as it is deployed: observe, decide, change the training's schedule, say why."""

from typing import Any

from prefect import flow
from prefect.states import Completed, State

from federation.durations import DAY
from flows.consortium import read_consortium
from flows.deploy import training_timing
from tasks.adjusting import adjust
from tasks.decisions import observe, report
from tasks.deployments import named
from tasks.order import Order


@flow(name="adjust-frequency", flow_run_name=named("adjust"))
def adjust_frequency(order: Order) -> State[Any]:
    """Decide from past trainings how often to train, and change the training's schedule to it.

    A pin wins over the policy; a training under way is left alone; with nothing to observe the interval
    stays as it is.
    """
    consortium = read_consortium(order.consortium, order.data, order.folder)
    tracking = consortium.mlflow()
    configured = training_timing(consortium).seconds or DAY
    history, trouble = observe(tracking, consortium.name, consortium.model.metric, configured)
    decided = adjust(consortium.home, consortium.name, consortium.frequency, history, trouble)
    untold = report(tracking, consortium.name, consortium.home, decided)
    return Completed(message=" ".join(filter(None, (f"{decided.new}: {decided.reason}", untold))))
