"""Whether a newly trained model takes the champion's place: a pure function of what sums told of the two.

Both were asked the same queries, so the gain's error is that of pairs.  The overall gain must be beyond its
error; each participant judges for itself whether it would be worse off, and only how many is summed.
"""

from typing import Annotated

from pydantic import ConfigDict, Field

from federation.durations import Hours
from federation.frozen import Frozen

Share = Annotated[float, Field(ge=0)]


class GateConfig(Frozen):
    """When a challenger is promoted."""

    least_gain: Share = Field(
        default=1.0, description="bootstrap errors that the overall gain in NDCG must be beyond"
    )
    tolerance: Share = Field(
        default=0.05, description="share of the champion's NDCG that a participant may lose"
    )
    tolerance_errors: Share = Field(
        default=2.0, description="bootstrap errors that its own loss must be beyond that to count"
    )
    fewest: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="participants that must have compared the two; none: rounds.minimum"
    )
    approval: bool = Field(
        default=False,
        description="a person must agree: a scheduled training asks in Prefect's page, any other waits for "
        "`chorus promote`",
    )
    approval_hours: Hours = Field(
        default=24.0, description="hours that a scheduled training waits for the answer"
    )


class Compared(Frozen):
    """Challenger less champion over `participants` of the cohort, `worse` of which would be worse off.

    Those of them that disclose it are `named`; gain and error are none where too few have both models,
    and NaN where these were asked nothing.
    """

    model_config = ConfigDict(allow_inf_nan=True)

    champion: str
    participants: int
    gain: float | None = None
    gain_error: float | None = None
    worse: int = 0
    named: tuple[str, ...] = ()


class Verdict(Frozen):
    """Whether to promote, and why, in a sentence; or whether that `waits` for a person."""

    promote: bool
    reason: str
    waits: bool = False


def judge(config: GateConfig, minimum: int, compared: Compared | None) -> Verdict:
    """The gate's verdict; `compared` is none where there is no champion yet, `minimum` that of the rounds."""
    fewest = max(config.fewest or minimum, minimum)
    if compared is None:
        return Verdict(promote=True, reason="There was no champion before it.")
    if compared.participants == 0:
        reason = f"No participant has the champion of run {compared.champion}, so nothing was compared."
        return Verdict(promote=not config.approval, waits=config.approval, reason=reason)
    if compared.participants < fewest or compared.gain is None:
        return _kept(compared, f"only {compared.participants} have both models, expected {fewest}")
    if compared.worse:
        names = f" ({', '.join(compared.named)})" if compared.named else ""
        return _kept(compared, f"{compared.worse} would be worse off than they tolerate{names}")
    error = compared.gain_error or 0.0
    told = f"the gain is {compared.gain:+.4f}, its bootstrap error {error:.4f}"
    if not compared.gain > config.least_gain * error:
        return _kept(compared, f"{told}; expected a gain beyond {config.least_gain:g} times that")
    reason = f"Better than run {compared.champion}: {told}."
    return Verdict(promote=not config.approval, waits=config.approval, reason=reason)


def worse_off(config: GateConfig, champion: float, gain: float, gain_error: float) -> bool:
    """Whether a participant with these own figures objects: a loss beyond tolerance, and beyond chance."""
    return gain < -(config.tolerance * champion + config.tolerance_errors * gain_error)


def _kept(compared: Compared, why: str) -> Verdict:
    return Verdict(promote=False, reason=f"The champion stays, that of run {compared.champion}: {why}.")
