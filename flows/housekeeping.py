"""Housekeeping as it is deployed: old sums, models, work and flow runs go; records and the champion stay."""

from typing import Any

from prefect import flow
from prefect.states import Cancelled, Completed, Failed, State

from federation.errors import Refused, reasons
from flows.consortium import read_consortium
from flows.operate import PATIENCE_SECONDS, at_work
from mlruns_config.champions import Champions
from tasks.deployments import named
from tasks.order import Order
from tasks.tidying import kept_runs, tidy_flow_runs, tidy_participants, tidy_runs


@flow(name="housekeeping", flow_run_name=named("tidy"))
def housekeeping(order: Order) -> State[Any]:
    """Drop what no kept run needs; a training under way is waited for."""
    consortium = read_consortium(order.consortium, order.data, order.folder)
    home, config = consortium.home, consortium.schedule
    try:
        with at_work(consortium, PATIENCE_SECONDS):
            champions = Champions(consortium.mlflow(), consortium.name)
            keep = kept_runs(home, config.keep_runs, champions.standing())
            folders, lost = tidy_participants(home, consortium.memberships, keep)
            sums = tidy_runs(home, keep)
    except Refused as busy:
        return Cancelled(message=str(busy))
    ended = tidy_flow_runs(consortium.tags, consortium.keep_days)
    told = (
        f"dropped {sum(folders.values())} folders of participants, the sums of {sums} runs, {ended} flow runs"
    )
    return Failed(message=f"{told}; not those of {reasons(lost)}") if lost else Completed(message=told)
