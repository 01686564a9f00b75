"""What the transformer of a run has learned so far, as its checkpoints tell, and whether that is enough."""

from functools import lru_cache
from typing import Any

from federation.channel import Vector
from federation.stopping import Decision, StopRule, decide
from recommenders import sequence
from recommenders.attention import Network
from recommenders.exchange import learned
from recommenders.sequence import SequenceConfig
from recommenders.versions import Versions
from tasks.run import Run
from tasks.runs import RunFolder


def is_enough(number: int, run: Run) -> bool:
    """Whether the transformer of the round needs no more sums.

    Round 0 stops by the consortium's NDCG on the validation parts; round 1 has as many as were best.
    """
    if number == 0:
        return _decision(run).stop
    return len(run.folder.steps(number, "learned")) >= _best(run)[1]


def best(run: Run) -> dict[str, Any] | None:
    """After how many federated rounds and sums validation was best, at which trust; none if none reads."""
    if run.model.kind != "sequence":
        return None
    rounds, sums = _best(run)
    trust = run.folder.steps(0, "learned")[sums - 1]["trust"] if sums else 1.0
    return {"rounds": rounds, "sums": sums, "trust": trust}


def network(run: Run) -> Network:
    """What was learned in round 1, as far as it is trusted."""
    found = best(run)
    assert found is not None
    return sequence.blended(after(found["sums"], 1, run), run.embeddings).trusted(found["trust"])


def after(sums: int, number: int, run: Run) -> Network:
    """Everybody's network of the round after so many sums, of the items that the run knows."""
    rows = sum(run.embeddings.shape)
    return _versions(run.folder, rows, run.model.sequence, run.seed, number).after(sums)


def digest(sums: int, number: int, run: Run) -> str:
    """That of the same network, as it was noted then."""
    steps = run.folder.steps(number, "learned")
    return str(steps[sums - 1]["network"]) if sums else after(0, number, run).digest()


@lru_cache(maxsize=2)
def _versions(folder: RunFolder, rows: int, config: SequenceConfig, seed: int, number: int) -> Versions:
    first, exchange = sequence.initial(rows, config, seed), config.exchange
    weights = folder.opened(f"{number}/weights/{folder.part(number)}")

    def total(step: int) -> Vector:
        return folder.opened(f"{number}/sequence/{step}")

    return Versions(first, learned(weights, exchange.keep, rows), exchange, (seed, number), total)


def history(run: Run) -> dict[int, float]:
    """The consortium's NDCG on the validation parts in round 0, by the number of federated rounds."""
    metric, steps = run.model.metric, (step for step in run.folder.steps(0, "learned") if step["over"])
    return {place: each["overall"].get(metric, float("nan")) for place, each in enumerate(steps, 1)}


def _best(run: Run) -> tuple[int, int]:
    """The best federated round, counted from 1, and how many sums there were at its end; 0, 0 for none."""
    rounds = _decision(run).best_round + 1
    ends = [place for place, step in enumerate(run.folder.steps(0, "learned"), 1) if step["over"]]
    return rounds, ends[rounds - 1] if rounds else 0


def _decision(run: Run) -> Decision:
    settings = run.model.sequence
    rule = StopRule(maximum_rounds=settings.rounds, patience=settings.patience)
    return decide(list(history(run).values()), rule)
