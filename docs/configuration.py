"""Print docs/configuration.md from the models themselves: `.venv/bin/python docs/configuration.py`."""

from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from feature_store.cleaning import CleaningRules
from feature_store.narrowing import Aliases, PartOfUsers
from feature_store.sources import Columns, Source
from feature_store.splits import GivenSplit, LeaveLastOut, TemporalSplit
from feature_store.world import World
from federation.bandit import Bandit
from federation.frequency import Drift, FrequencyConfig, Periodic
from federation.gate import GateConfig
from federation.observation import Costs
from federation.plateau import Plateau
from federation.policy import RoundPolicy
from flows.consortium import Consortium
from flows.participant import Participant
from mlruns_config.config import TrackingConfig
from recommenders.augmentation import AugmentConfig
from recommenders.boosting import BoostingConfig
from recommenders.exchange import ExchangeConfig
from recommenders.exploration import ExploreConfig
from recommenders.sequence import SequenceConfig
from recommenders.two_stage import TwoStage
from tasks.engines import EngineConfig
from tasks.membership import Coordinator, Disclosures
from tasks.model import ModelConfig
from tasks.schedule import AlertConfig, ScheduleConfig

SECTIONS: dict[str, type[BaseModel]] = {
    "The file": Consortium,
    "participants: each": Participant,
    "coordinator": Coordinator,
    "events, test": Source,
    "events.columns": Columns,
    "events.aliases": Aliases,
    "events.users": PartOfUsers,
    "discloses": Disclosures,
    "cleaning": CleaningRules,
    "split, kind: temporal": TemporalSplit,
    "split, kind: leave-last-out": LeaveLastOut,
    "split, kind: given": GivenSplit,
    "model": ModelConfig,
    "model.two_stage": TwoStage,
    "model.two_stage.boosting": BoostingConfig,
    "model.sequence": SequenceConfig,
    "model.sequence.augment": AugmentConfig,
    "model.sequence.exchange": ExchangeConfig,
    "explore": ExploreConfig,
    "rounds": RoundPolicy,
    "frequency": FrequencyConfig,
    "frequency.policy, kind: periodic": Periodic,
    "frequency.policy, kind: plateau": Plateau,
    "frequency.policy, kind: drift": Drift,
    "frequency.policy, kind: bandit": Bandit,
    "frequency.costs": Costs,
    "gate": GateConfig,
    "tracking": TrackingConfig,
    "schedule": ScheduleConfig,
    "alerts": AlertConfig,
    "engine": EngineConfig,
    "world": World,
}


RANKER = TwoStage().boosting
"""What the ranker's trees are, where the file does not say otherwise."""


def page() -> str:
    """The whole page, in Markdown."""
    head = (
        "# consortium.yaml, key by key\n\n"
        "Written by `docs/configuration.py` from the models that read the file; "
        "a key that is not here, or is there twice, is refused.\n"
        "Keys that begin with `x-` are ignored, for YAML anchors.\n"
    )
    return head + "".join(f"\n## {title}\n\n{_table(title, model)}" for title, model in SECTIONS.items())


def _table(title: str, model: type[BaseModel]) -> str:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        default = getattr(RANKER, name) if model is BoostingConfig else field.default
        required = default is PydanticUndefined or (name == "kind" and ", kind:" in title)
        default = "required" if required else _shown(default)
        rows.append(f"| `{name}` | {default} | {field.description or ''}{_choices(field.annotation)} |")
    return "\n".join(rows) + "\n"


def _choices(kind: object) -> str:
    """The values that a key may have, where they are named and several."""
    named = [kind, *get_args(kind)]
    values = [value for each in named if get_origin(each) is Literal for value in get_args(each)]
    return f" ({', '.join(f'`{value}`' for value in values)})" if len(values) > 1 else ""


def _shown(default: object) -> str:
    if isinstance(default, BaseModel):
        return "see below"
    return "none" if default is None else f"`{default}`"


if __name__ == "__main__":
    print(page(), end="")
