"""Training the transformer, the coordinator's side: everybody trains, and who has finished is added.

Each sum is checkpointed.  A federated round is over when the work of everybody is in a sum; where the slower
are not waited for, the faster are in several by then.
"""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.utilities.annotations import quote

from federation.errors import Lost
from tasks import learned
from tasks.run import Run
from tasks.sums import common, summary
from tasks.work import ONCE_MORE, Disclosed, Trained, Work, arrived, believed


class Begun(NamedTuple):
    """Training that is under way, and from the network after how many sums it began."""

    future: PrefectFuture[Disclosed]
    sums: int


def learn_together(number: int, work: Mapping[str, quote[Work]], run: Run) -> dict[str, str]:
    """Train until it is enough; returns who was lost, and why."""
    work, begun, lost = dict(work), dict[str, Begun](), dict[str, str]()
    while not learned.is_enough(number, run):
        began, steps = time.monotonic(), run.folder.steps(number, "learned")
        before = _cut_off(number, len(steps), run)
        for name in work.keys() - begun.keys():
            sums = before.get(name, len(steps))
            begun[name] = Begun(learn.submit(work[name], sums, _turn(name, steps)), sums)
        ended = finished(number, begun, before, steps, run)
        told, silent = arrived({name: begun[name].future for name in ended})
        lost |= silent
        _require(told, silent, run)
        work = {name: each for name, each in work.items() if name not in lost}
        begins = {name: begun[name].sums for name in told}
        over = work.keys() <= _since_look(steps) | told.keys()
        add(number, begins, {name: each["seconds"] for name, each in told.items()}, over, began, run)
        begun = {name: each for name, each in begun.items() if name not in ended}
    arrived({name: each.future for name, each in begun.items()})  # what comes now is too late
    return lost


@task(
    name="learn",
    task_run_name="learn at {work.name}, round {work.number}, after {begins} sums",
    cache_key_fn=lambda _, arguments: f"learn-{arguments['work'].key}-{arguments['begins']}",
    persist_result=True,
    **ONCE_MORE,
)
def learn(work: Work, begins: int, turn: int) -> Disclosed:
    """The participant's training from the network after so many sums; the change is kept at its side."""
    return believed(work.name, "its training", Trained, work.ask("learn", begins=begins, turn=turn))


@task(name="add changes", task_run_name="add changes, round {number}", cache_policy=NO_CACHE)
def add(
    number: int,
    begins: Mapping[str, int],
    seconds: Mapping[str, float],
    over: bool,
    began: float,
    run: Run,
) -> None:
    """Add what training has changed, by the participants and after how many sums they began; checkpointed.

    `seconds` is how long each has trained.  Then, where a federated round is `over`, look at what the network
    does on validation; seconds of the record are those since the clock showed `began`, when it was last
    waited for training.
    """
    step = len(run.folder.steps(number, "learned"))
    cuts, plan = run.folder.facts["cuts"], run.plan(number, tuple(begins))
    networks = {str(sums): learned.digest(sums, number, run) for sums in begins.values()}
    apart = run.model.sequence.exchange.together < 1
    run.folder.note(adding={"number": number, "step": step, "begins": begins})
    reply = run.sum(plan, "average", cuts=cuts, step=step, apart=apart, networks=networks)
    record: dict[str, Any] = {**summary(reply, began), "over": over}
    record["trained"] = dict(seconds)
    record["late"] = {name: step - begins[name] for name in reply.cohort}
    record["network"] = learned.after(step + 1, number, run).digest()
    if over and number == 0:
        record |= _look(step + 1, record["network"], run)
    run.folder.add_step(number, "learned", record)
    _report(number, run)


def _look(sums: int, network: str, run: Run) -> dict[str, Any]:
    """The figures of validation by the `network` of this digest, at all who are in the sums of the round."""
    cuts, plan = run.folder.facts["cuts"], run.plan(0, run.folder.steps(0, "summed")[0]["cohort"])
    return common(run.sum(plan, "look", cuts=cuts, step=sums, networks={str(sums): network}))


def finished(
    number: int,
    begun: Mapping[str, Begun],
    before: Collection[str],
    steps: Sequence[Mapping[str, Any]],
    run: Run,
) -> Collection[str]:
    """Whose training has ended, once as many of them as make a sum have not lost it.

    All are waited for where a federated round of round 0 ends with them, and of a sum that was cut off all
    who were in it `before`.
    """
    waits = {name: begun[name] for name in before or begun if name in begun}
    share = 1.0 if before else run.model.sequence.exchange.together
    enough = min(len(waits), max(run.policy.minimum, math.ceil(share * len(waits))))
    names, ended, told = {id(each.future): name for name, each in waits.items()}, set[str](), 0
    for future in as_completed([each.future for each in waits.values()]):
        future.wait()  # its state is known then
        ended.add(names[id(future)])
        told += future.state.is_completed()
        ends = number == 0 and begun.keys() <= _since_look(steps) | ended
        if told >= enough and not ends:
            break
    return ended


def _cut_off(number: int, step: int, run: Run) -> dict[str, int]:
    """By who was to be in this sum, when the run was cut off, after how many sums it had begun: as then.

    With another change of somebody the difference of both sums would be its own.
    """
    known = run.folder.facts.get("adding", {})
    return dict(known["begins"]) if (known.get("number"), known.get("step")) == (number, step) else {}


def _require(told: Collection[str], lost: Mapping[str, str], run: Run) -> None:
    """Raise `Lost` where somebody is missing whom all sums need, or fewer are left than may be summed."""
    same = run.model.sequence.exchange.together == 1 and run.policy.on_loss == "wait"
    if lost and (same or len(told) < run.policy.minimum):
        raise Lost(dict(lost))


def _since_look(steps: Sequence[Mapping[str, Any]]) -> set[str]:
    """Whose work is in sums of the federated round under way."""
    found = set[str]()
    for step in steps:
        found = set() if step["over"] else found | set(step["cohort"])
    return found


def _turn(name: str, steps: list[dict[str, Any]]) -> int:
    return sum(name in step["cohort"] for step in steps)


def _report(number: int, run: Run) -> None:
    """Tell the figures of the newest sum, at MLflow too."""
    steps = run.folder.steps(number, "learned")
    last, sums = steps[-1], len(steps)
    overall, late = last.get("overall", {}), last["late"]
    sent = {way: sum(last[way].values()) for way in ("bytes_up", "bytes_down")}
    part = "validation" if number == 0 else "refit"
    figures = {"seconds": last["seconds"], "late": sum(late.values()) / len(late), **sent, **overall}
    named = {f"sequence/{part}/{name}": value for name, value in figures.items()}
    run.tracking.log_metrics(run.folder.facts["mlflow_run_id"], sums, named)
    if last["over"]:
        ndcg, rounds = overall.get(run.model.metric), sum(step["over"] for step in steps)
        told = "" if ndcg is None else f", NDCG {ndcg:.4f} on validation"
        told += "" if sums == rounds else f", {sums} sums"
        run.say(f"round {number}: federated round {rounds}{told}")
