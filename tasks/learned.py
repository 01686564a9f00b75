"""What the transformer of a run has learned so far, as its checkpoints tell, and whether that is enough."""

from typing import Any

from federation.stopping import Decision, StopRule, decide
from recommenders import sequence
from recommenders.attention import Network
from tasks.run import Run


def is_enough(number: int, run: Run) -> bool:
    """Whether the transformer of the round needs no more federated rounds.

    Round 0 stops by the consortium's NDCG on the validation parts; round 1 has as many as were best then.
    """
    if number == 0:
        return _decision(run).stop
    return len(run.folder.steps(number, "learned")) >= _decision(run).best_round + 1


def best(run: Run) -> dict[str, Any] | None:
    """After how many federated rounds validation was best, and at which trust; none where none reads."""
    if run.model.kind != "sequence":
        return None
    rounds = _decision(run).best_round + 1
    steps = run.folder.steps(0, "learned")
    return {"rounds": rounds, "trust": steps[rounds - 1]["trust"] if rounds else 1.0}


def network(run: Run) -> Network:
    """What was learned in round 1, as far as it is trusted."""
    found = best(run)
    assert found is not None
    return after(found["rounds"], 1, run).trusted(found["trust"])


def after(rounds: int, number: int, run: Run) -> Network:
    """Everybody's network of the round after so many federated rounds, of the items that the run knows."""
    assert run.items is not None
    first = sequence.initial(run.items, run.model.sequence, run.seed)
    if rounds == 0:
        return first
    opened = (run.folder.opened(f"{number}/sequence/{rounds - 1}/{name}") for name in ("network", "events"))
    return sequence.mean(*opened, first)


def history(run: Run) -> dict[int, float]:
    """The consortium's NDCG on the validation parts in round 0, by the number of federated rounds."""
    metric, steps = run.model.metric, run.folder.steps(0, "learned")
    return {place + 1: each["overall"].get(metric, float("nan")) for place, each in enumerate(steps)}


def _decision(run: Run) -> Decision:
    settings = run.model.sequence
    rule = StopRule(maximum_rounds=settings.rounds, patience=settings.patience)
    return decide(list(history(run).values()), rule)
