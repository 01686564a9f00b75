"""The sums of a round, each a Prefect task: the cohort is fixed, masks are agreed, totals are opened."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from feature_store import content
from feature_store.catalogue import digest, read_catalogue, write_catalogue
from federation.errors import BadInput, Refused, reasons
from federation.rounds import Together
from recommenders.exploration import counts
from recommenders.item_to_item import require_memory
from tasks.grown import ranker
from tasks.run import Run


@task(name="agree catalogue", cache_policy=NO_CACHE)
def agree_catalogue(cohort: Sequence[str], run: Run) -> None:
    """The catalogue in use: as it is configured, or with the participants' new items at its end.

    The run knows the items of its beginning.  Raises `BadInput` where these are others now: what is summed
    knows items by their place; and `BadData` where the file of their content is wrong.
    """
    if run.grows and "catalogue" not in run.folder.facts:
        _add_items(cohort, run)
    items = run.items or len(read_catalogue(run.catalogue))
    found = digest(run.catalogue, items)
    if run.folder.facts.get("catalogue", found) != found:
        raise BadInput(
            f"{run.catalogue}: found other items than when run '{run.name}' began; expected the same in the "
            "same order, or a new run"
        )
    run.folder.note(catalogue=found, items=items)
    _note_content(run)


def _note_content(run: Run) -> None:
    """Note by which content the items are known; raises `BadData` where its file is wrong."""
    if run.content is not None:
        modalities, catalogue = run.model.content, read_catalogue(run.catalogue)[: run.items]
        told = content.of_catalogue(run.content, modalities, catalogue)
        run.folder.note(content=content.digest(run.content))
        known = int(told.vectors.any(axis=1).sum())
        run.say(f"content: {known:,} of the catalogue's {run.items:,} items have an embedding")


def _add_items(cohort: Sequence[str], run: Run) -> None:
    """Write the union of the new items at the end of the catalogue: models know items by their place."""
    reply = run.sum(run.plan(0, cohort), "items", keep=False)
    new = common(reply)["items"]
    known = read_catalogue(run.catalogue).to_pylist() if run.catalogue.exists() else []
    if not known + new:
        raise BadInput("nobody has an item, so there is nothing to recommend; see `chorus check`")
    if run.model.sums_pairs:
        require_memory(len(known) + len(new), run.model.memory_gb)
    if new:
        write_catalogue(run.catalogue, [*known, *new])
    run.say(f"the catalogue has {len(known) + len(new):,} items, {len(new):,} of them new; whose is not told")
    if reply.lost:
        run.say(f"it lacks what others alone have, until the next run: {reasons(reply.lost)}")


@task(name="agree cuts", task_run_name="agree cuts in time", cache_policy=NO_CACHE)
def agree_cuts(cohort: Sequence[str], run: Run) -> list[str]:
    """The moments that part training, validation and test, as ISO text; none where the split has none.

    What follows from all events' times is obtained from sums, once in a run.
    """
    if "cuts" in run.folder.facts:
        return list(run.folder.facts["cuts"])
    cuts: list[str] = []
    if run.split.kind == "temporal" and run.split.cuts is not None and run.model.kind != "two_stage":
        cuts = [cut.replace(tzinfo=None).isoformat() for cut in run.split.cuts]
    elif run.split.kind == "temporal":
        cuts = cuts_in(run.sum(run.plan(0, cohort), "cuts"))
    if run.model.kind == "two_stage" and len(cuts) < 3:
        raise BadInput(
            f"split: found cuts {', '.join(cuts)}, expected room before validation for a window of as many "
            "events, whose labels train the ranker; cut later, or set model.kind: item_to_item"
        )
    run.folder.note(cuts=cuts)
    if cuts:
        run.say(f"cuts in time: {', '.join(cuts)}")
    return cuts


def cuts_in(reply: Together) -> list[str]:
    """The moments that all heard; raises `BadInput` where validation and test have none of their own."""
    cuts: list[str] = common(reply)["cuts"]
    if len(cuts) < 2:
        raise BadInput(
            f"split: found cuts {', '.join(cuts) or 'none'}, expected one for validation and a later one for "
            "test: nobody has events, or too many have one time; see `chorus check`, set split.cuts, or "
            "split.kind: leave-last-out with model.kind: item_to_item"
        )
    return cuts


@task(name="aggregate", task_run_name="aggregate, round {number}", cache_policy=NO_CACHE)
def aggregate(number: int, cohort: Sequence[str], cuts: list[str], run: Run) -> dict[str, Any]:
    """Add what the participants kept for this round; returns who is in the sum, bytes and seconds."""
    if known := run.folder.steps(number, "summed"):
        run.say(f"round {number}: its sum was opened before, among {', '.join(known[0]['cohort'])}")
        return known[0]
    began = time.monotonic()
    reply = run.sum(run.plan(number, cohort), "gather", cuts=cuts)
    run.say(f"round {number}: opened the sum of {', '.join(reply.cohort)}")
    if number == 0 and run.agreed.get("explore.places"):
        run.say(_tried(run))
    run.folder.add_step(number, "summed", summary(reply, began))
    return summary(reply, began)


def _tried(run: Run) -> str:
    """What came of what was shown, by the sums of the first round."""
    if (held := int(run.folder.opened("0/exploration/held")[0])) < run.policy.minimum:
        days, fewest = run.agreed["explore.window_days"], run.policy.minimum
        told = f"exploration: {held} participants have shown something that is {days:g} days old"
        return f"{told}, expected {fewest}: nothing of it is summed"
    shown, had = counts(run.folder.opened("0/exploration/statistics"))
    return f"exploration: of {shown:,} items that were shown {had:,} were had ({had / shown:.1%})"


@task(name="evaluate", task_run_name="evaluate, round {number}", cache_policy=NO_CACHE)
def evaluate(number: int, cohort: Sequence[str], run: Run) -> dict[str, Any]:
    """The consortium's figures of a round, from the sums of the participants' metric sums.

    Of a ranker that is tested also what it looks at, from the sums of Shapley values.
    """
    began, part = time.monotonic(), run.folder.part(number)
    state = ranker(number, run) if number == 1 else None
    reply = run.sum(run.plan(number, cohort), "evaluate", part=part, state=state)
    return {**summary(reply, began), **common(reply)}


def common(reply: Together) -> dict[str, Any]:
    """What all of the cohort told of the sums that all heard.

    Raises `Refused`, naming those who told something else than most: one alone is not believed.
    """
    told = {
        name: json.dumps(each, sort_keys=True) for name, each in reply.results.items()
    }  # NaN is not itself
    usual = Counter(told.values()).most_common(1)[0][0]
    if odd := sorted(name for name, each in told.items() if each != usual):
        raise Refused(
            f"{reply.plan.label}: {', '.join(odd)} told other results of the same sums than the rest"
        )
    return next(iter(reply.results.values()))


def summary(reply: Together, began: float) -> dict[str, Any]:
    """Who is in a sum, who is not, whom that exposed, bytes by participant, attempts, seconds."""
    return {
        "cohort": list(reply.cohort),
        "lost": reply.lost,
        "bytes_up": reply.bytes_up,
        "bytes_down": reply.bytes_down,
        "attempts": reply.attempts,
        "exposed": list(reply.exposed),
        "seconds": time.monotonic() - began,
    }
