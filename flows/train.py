"""The main job: from the participants' event files to a registered recommender."""

from typing import Any

from prefect import flow
from prefect.futures import PrefectFutureList
from prefect.utilities.annotations import quote

from flows.consortium import Consortium
from tasks.champion import meet_champion
from tasks.engines import import_everywhere
from tasks.growing import grow_trees
from tasks.grown import trees_wanted
from tasks.learning import learn_together
from tasks.news import require_news
from tasks.opening import open_run
from tasks.quorum import require_quorum
from tasks.report import checkpoint, close_run, log_round, tell_again
from tasks.run import Run
from tasks.sums import aggregate, agree_catalogue, agree_cuts, evaluate
from tasks.work import (
    Work,
    arrived,
    prepare_participant,
    score_participant,
    tabulate_participant,
    train_participant,
)

ROUNDS = ("validation", "test")
"""First everything is chosen on the validation part; then it is refitted on more, and tested."""


@flow(name="train", flow_run_name="train {consortium.name}, {run}")
def train(
    consortium: Consortium, run: str, redo: str | None = None, only_new: bool = False
) -> dict[str, Any]:
    """Train the recommender of `consortium` as run `run`, or go on with it; returns its figures.

    The part of the participant `redo` in the round under way is done again.  With `only_new` it ends before
    training, with `NothingNew`, where an earlier run has learned all that there is.

    Raises `TooFew` where quorum or minimum no longer hold; what was done is kept for a resume.
    """
    import_everywhere(consortium.home, consortium.memberships, consortium.engine)
    with open_run(consortium.home, consortium.memberships, run, consortium.settings(), redo) as training:
        tell_again(training)
        if redo is not None:
            training.ask(redo, "forget", number=len(training.folder.rounds))
        prepared = prepare(training)
        meet_champion(training)
        if only_new:
            require_news(training)
        agree_catalogue(tuple(prepared), training)
        cuts = agree_cuts(tuple(prepared), training)
        logged = PrefectFutureList[None]()  # one after the other, while the next round goes on
        for number in range(len(training.folder.rounds), len(ROUNDS)):
            train_round(number, prepared, cuts, training)
            logged.result()
            logged.append(log_round.submit(number, quote(training)))
        figures = close_run(prepared, training)
        logged.result()
        return figures


def prepare(training: Run) -> dict[str, dict[str, Any]]:
    """Every participant's data, imported and cleaned."""
    asked = {name: prepare_participant.submit(name, quote(training)) for name in training.doors}
    prepared, lost = arrived(asked)
    require_quorum(training, "prepare", prepared, lost)
    for name, why in lost.items():
        training.say(f"{name} is left out: {why}")
    training.begin_with(prepared, lost)
    return prepared


def train_round(number: int, prepared: dict[str, dict[str, Any]], cuts: list[str], training: Run) -> None:
    """One round: local work, its sum, what each makes of the sum, and the figures; then the checkpoint."""
    training.folder.begin(number)
    missed = training.missed(prepared)
    work = {
        name: quote(Work(name, number, told["version"], cuts, training)) for name, told in prepared.items()
    }

    trained, silent = arrived({name: train_participant.submit(work[name]) for name in work.keys() - missed})
    silent |= missed
    require_quorum(training, ROUNDS[number], trained, silent)
    summed = aggregate(number, tuple(trained), cuts, training)

    work = {name: work[name] for name in summed["cohort"] if name in work}
    found = dict[str, dict[str, Any]]()
    if training.model.kind == "two_stage":
        found, lost = grow_ranker(number, work, training)
        silent |= lost
    if training.model.kind == "sequence":
        silent |= learn_together(number, work, training)
    scored, lost = arrived({name: score_participant.submit(work[name]) for name in work.keys() - silent})
    require_quorum(training, ROUNDS[number], scored, silent | lost)
    figures = evaluate(number, tuple(sorted(scored)), training)

    worked = (trained, found, scored)
    checkpoint(number, ROUNDS[number], summed, worked, figures, silent | lost, training)


def grow_ranker(
    number: int, work: dict[str, quote[Work]], training: Run
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Each finds its candidates, then those with rows grow trees until it is enough.

    Returns what they disclosed of their candidates, and who was lost.
    """
    found, lost = arrived({name: tabulate_participant.submit(work[name]) for name in work})
    require_quorum(training, ROUNDS[number], found, lost)
    growing = tuple(name for name, told in found.items() if told["teaches"])
    while (trees := trees_wanted(number, training)) > 0:
        grow_trees(number, trees, growing, lost, training)
    return found, lost
