"""`consortium.yaml`: who takes part, with which data, and what is trained. The one type of `flows`."""

from os.path import realpath
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from feature_store.cleaning import CleaningRules
from feature_store.splits import Split, TemporalSplit
from feature_store.world import World
from federation.durations import LONGEST_DAYS
from federation.errors import BadInput
from federation.frequency import FrequencyConfig
from federation.frozen import Frozen
from federation.gate import GateConfig
from federation.policy import RoundPolicy
from flows.explaining import explain
from flows.fitting import CHECKS
from flows.keys import read_keys
from flows.participant import Participant
from mlruns_config.config import TrackingConfig, without_user
from mlruns_config.tracking import Tracking
from recommenders.exploration import ExploreConfig
from tasks.engines import EngineConfig
from tasks.membership import Coordinator, Membership
from tasks.model import ModelConfig
from tasks.opening import Settings
from tasks.schedule import AlertConfig, ScheduleConfig

Url = Annotated[str, without_user("Prefect takes from PREFECT_API_AUTH_STRING")]


class Consortium(Frozen):
    """What all participants agreed on."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="lower-case letters, digits, -")]
    data: Path = Field(
        Path("."),
        description="folder that the participants' paths start from, itself from the file's; --data wins",
    )
    state: Path = Field(
        Path(".chorus"),
        description="folder for everything that runs leave behind, from where the command is typed",
    )
    participants: Annotated[
        tuple[Participant, ...], Field(min_length=1, description="the organisations, at least rounds.minimum")
    ]
    coordinator: Coordinator | None = Field(None, description="where participants on other machines connect")
    catalogue: Path | None = Field(
        None, description="file of item ids, common knowledge; none: the union of the participants' ids"
    )
    content: Path | None = Field(
        None, description="Parquet file of the items' embeddings (model.content), common knowledge"
    )
    world: World | None = Field(None, description="generate the participants' events from this world")
    cleaning: CleaningRules = Field(CleaningRules(), description="rules that each participant's events pass")
    split: Split = Field(TemporalSplit(), description="what is training, validation and test")
    model: ModelConfig = Field(ModelConfig(), description="what is trained")
    explore: ExploreConfig = Field(
        ExploreConfig(),
        description="places of lists for items that are worth trying",
    )
    rounds: RoundPolicy = Field(RoundPolicy(), description="quorum, minimum, deadline, masks")
    gate: GateConfig = Field(GateConfig(), description="when a newly trained model becomes the champion")
    tracking: TrackingConfig = Field(TrackingConfig(), description="where MLflow keeps runs and models")
    prefect_api_url: Url | None = Field(
        None, description="a Prefect server of your own; none: one is started"
    )
    frequency: FrequencyConfig = Field(FrequencyConfig(), description="how often it trains, by which policy")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="how often training and the rest run")
    engine: EngineConfig = Field(EngineConfig(), description="where heavy preparation runs")
    alerts: AlertConfig = Field(AlertConfig(), description="whom to tell when a run is amiss")
    keep_days: Annotated[float, Field(ge=0, le=LONGEST_DAYS)] = Field(
        7.0, description="days that a failed run's local work is kept for a resume"
    )
    seed: int = Field(0, ge=0, description="seed of all public random streams")

    @model_validator(mode="after")
    def _parts_fit(self) -> "Consortium":
        for check in CHECKS:
            check(self)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The participants' names, in order."""
        return tuple(sorted(each.name for each in self.participants))

    @property
    def remote(self) -> list[str]:
        """The names of those who connect from other machines."""
        return [each.name for each in self.participants if each.is_remote]

    @property
    def tags(self) -> tuple[str, str]:
        """Tags of its deployments and their flow runs at Prefect."""
        return "chorus", f"consortium:{self.name}"

    @property
    def home(self) -> Path:
        """The folder of this consortium under `state`."""
        return self.state / self.name

    def own_folder(self, name: str) -> Path:
        """The folder of the participant `name`."""
        return self.home / "participants" / name

    @property
    def catalogue_path(self) -> Path:
        """The catalogue in use: the configured file, or where the union is kept."""
        return self.data / self.catalogue if self.catalogue else self.home / "catalogue.txt"

    @property
    def content_path(self) -> Path | None:
        """The file of the items' embeddings, if there is one."""
        return self.content and self.data / self.content

    @property
    def memberships(self) -> list[Membership]:
        """What each participant's process reads, in the file's order."""
        return [self.membership(each) for each in self.participants]

    def membership(self, participant: Participant) -> Membership:
        """The part of the consortium that one participant's process reads."""
        remote = participant.is_remote
        own_catalogue = self.own_folder(participant.name) / "catalogue.txt"
        return Membership(
            name=participant.name,
            consortium=self.name,
            source=participant.events and participant.events.under(self.data),
            test=participant.test and participant.test.under(self.data),
            reachable=None if remote else participant.reachable and self.data / participant.reachable,
            discloses=participant.discloses,
            cleaning=self.cleaning,
            split=self.split,
            model=self.model,
            rounds=self.rounds,
            gate=self.gate.model_copy(
                update={} if participant.tolerance is None else {"tolerance": participant.tolerance}
            ),
            explore=self.explore,
            keep_days=self.keep_days,
            cadence_days=participant.cadence_days,
            catalogue=own_catalogue if remote and self.catalogue is None else self.catalogue_path,
            catalogue_grows=self.catalogue is None,
            content=self.content_path,
            participants=len(self.participants),
            seed=self.seed,
            certificates={each.name: each.certificate for each in self.participants},
            coordinator=self.coordinator,
        )

    def settings(self) -> Settings:
        """The part that the coordinator reads."""
        return Settings(
            name=self.name,
            decides=self.decides(),
            rounds=self.rounds,
            gate=self.gate,
            tracking=self.tracking,
            catalogue=self.catalogue_path,
            content=self.content_path,
            seed=self.seed,
            agreed=self.memberships[0].agreed,
        )

    def mlflow(self) -> Tracking:
        """Where its runs and models are kept."""
        return Tracking(self.tracking, self.home)

    def decides(self) -> str:
        """What decides the model, as JSON: everything but where things lie."""
        return self.model_dump_json(
            include={"name", "participants", "cleaning", "split", "model", "explore", "seed"},
            exclude={"participants": {"__all__": {"cadence_days", "certificate"}}},
        )


def read_consortium(path: Path, data: Path | None = None, folder: Path | None = None) -> Consortium:
    """The consortium in the file at `path`, its paths made absolute; `data` replaces its data folder.

    `folder` is where the command was typed, for paths that start there; none: the working folder.  Raises
    `BadInput` that names file, key, what was found and what was expected.
    """
    raw = read_keys(path)
    here = path.resolve().parent
    if data is not None:
        raw["data"] = realpath(data)  # which leaves a loop of links to who opens it
    elif "world" in raw:
        raw.setdefault("data", f"{raw.get('state', '.chorus')}/{raw.get('name', 'world')}/world")
    try:
        consortium = Consortium.model_validate(raw)
    except ValidationError as error:
        raise BadInput(explain(path, error, Consortium, raw)) from None
    folder = folder or Path.cwd()
    base = folder if consortium.world or data is not None else here
    return consortium.model_copy(
        update={
            "data": Path(realpath(base / consortium.data)),
            "state": Path(realpath(folder / consortium.state)),
            "tracking": consortium.tracking.under(folder.resolve()),
            "participants": tuple(each.under(here) for each in consortium.participants),
            "coordinator": consortium.coordinator and consortium.coordinator.under(here),
        }
    )
