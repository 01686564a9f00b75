"""Figures for MLflow: what the consortium gains each participant, and how it learned."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"alone": "#9aa5b1", "consortium": "#1f6f8b", "popularity": "#d8a44a", "reachable": "#333333"}


def gain_figure(participants: Mapping[str, Mapping[str, float | None]], metric: str) -> "Figure":
    """Bars of `metric` alone and in the consortium for each participant that discloses it."""
    from matplotlib.figure import Figure

    shown = {name: told for name, told in participants.items() if told.get("consortium") is not None}
    figure = Figure(figsize=(1.6 + 1.1 * max(len(shown), 3), 4), layout="constrained")
    axes = figure.subplots()
    for offset, arm in ((-0.2, "alone"), (0.2, "consortium")):
        bars = _told(shown, arm)
        axes.bar([place + offset for place in bars], list(bars.values()), 0.38, label=arm, color=COLOURS[arm])
    if best := _told(shown, "reachable"):
        left, right = [place - 0.4 for place in best], [place + 0.4 for place in best]
        axes.hlines(list(best.values()), left, right, COLOURS["reachable"], label="best possible")
    axes.set_xticks(range(len(shown)), list(shown))
    axes.set_ylabel(metric)
    axes.set_title("What the consortium brings each participant")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def learning_figure(rounds: Sequence[Mapping[str, float]], metric: str) -> "Figure":
    """`metric` of each arm, round by round."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for arm in dict.fromkeys(arm for each in rounds for arm in each):
        values = [each.get(arm, float("nan")) for each in rounds]
        axes.plot(range(len(values)), values, "o-", label=arm, color=COLOURS.get(arm))
    axes.set_xticks(range(len(rounds)))
    axes.set_xlabel("round")
    axes.set_ylabel(metric)
    axes.spines[["top", "right"]].set_visible(False)
    if rounds:
        axes.legend(frameon=False)
    return figure


def _told(shown: Mapping[str, Mapping[str, float | None]], arm: str) -> dict[int, float]:
    """Place of a participant to its figure of `arm`, where it has one."""
    figures = (told.get(arm) for told in shown.values())
    return {place: figure for place, figure in enumerate(figures) if figure is not None}
