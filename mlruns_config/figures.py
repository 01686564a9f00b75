"""Figures for MLflow: what the consortium gains each participant, and how it learned."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPENT = ("trainings", "bytes", "seconds", "regret")
SMOOTH = 8
COLOURS = {
    "alone": "#9aa5b1",
    "consortium": "#1f6f8b",
    "pooled": "#b5403a",
    "popularity": "#d8a44a",
    "reachable": "#333333",
}
MARKERS = {"alone": "o", "consortium": "D", "pooled": "x", "reachable": "|"}


def gain_figure(participants: Mapping[str, Mapping[str, float | None]], metric: str) -> "Figure":
    """A line for each of which `metric` is known, from its figure alone to the consortium's."""
    from matplotlib.figure import Figure

    shown = {name: told for name, told in participants.items() if told.get("consortium") is not None}
    longest = max(map(len, shown), default=0)
    figure = Figure(figsize=(6.5 + 0.09 * longest, 1.2 + 0.28 * max(len(shown), 3)), layout="constrained")
    axes = figure.subplots()
    told = {arm: _told(shown, arm) for arm in MARKERS}
    alone, together = told["alone"], told["consortium"]
    lines = list(alone), list(alone.values()), [together[place] for place in alone]
    axes.hlines(*lines, COLOURS["alone"], zorder=0)  # else they cross the marks
    for arm, marker in MARKERS.items():
        if told[arm]:
            points = list(told[arm].values()), list(told[arm])
            axes.scatter(*points, color=COLOURS[arm], marker=marker, s=24, label=arm)
    axes.set_yticks([])
    for place, name in enumerate(shown):  # a tick would take four times as long as its label
        axes.text(-0.01, place, name, transform=axes.get_yaxis_transform(), ha="right", va="center")
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    _begin_at_zero(axes)
    axes.set_xlim(left=0)
    axes.set_xlabel(metric)
    axes.set_title("What the consortium brings")
    axes.spines[["top", "right"]].set_visible(False)
    if shown:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _begin_at_zero(axes: "Axes") -> None:
    """Count 0 among the data, else a difference of nothing looks like one."""
    axes.update_datalim([(0.0, 0.0)])
    axes.autoscale_view()


def learning_figure(parts: Mapping[str, Mapping[str, float]], metric: str) -> "Figure":
    """`metric` of each arm, part by part: validation, then test."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for arm in dict.fromkeys(arm for each in parts.values() for arm in each):
        values = [each.get(arm, float("nan")) for each in parts.values()]
        axes.plot(list(parts), values, "o-", label=arm, color=COLOURS.get(arm))
    _begin_at_zero(axes)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(metric)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False)
    return figure


def replay_figure(
    moments: Sequence[datetime],
    courses: Mapping[str, Mapping[str, Sequence[float]]],
    fixed: Collection[str],
    metric: str,
) -> "Figure":
    """Policies side by side: the metric over time, what they spent and lost, and what they kept for it.

    `courses` has for each policy, the one that always trains first, its figures in each window, by name:
    `metric`, `trainings`, `bytes`, `seconds` and `regret`; NaN is what is not known.  The `fixed` intervals
    are grey, the longer the lighter, and joined by a line in the last panel: who is above it beats them.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.5), layout="constrained")
    panels = dict(zip(("metric", *SPENT, "kept"), figure.subplots(2, 3).ravel(), strict=True))
    colours = _policy_colours(list(courses), fixed)
    for name, course in courses.items():
        style = {"color": colours[name], "linewidth": 1 if name in fixed else 2}
        panels["metric"].plot(moments, _smooth(course["metric"]), label=name, **style)
        for spent in SPENT:
            panels[spent].plot(moments, np.nancumsum(course[spent]), **style)
    _draw_kept(panels["kept"], courses, fixed, colours)
    _label(panels, metric)
    figure.legend(loc="outside lower center", ncols=(len(courses) + 1) // 2, frameon=False)
    return figure


def _policy_colours(names: Sequence[str], fixed: Collection[str]) -> dict[str, str]:
    greys = (str(level) for level in np.linspace(0.0, 0.8, len(fixed)))
    strong = (f"C{number}" for number in range(len(names)))
    return {name: next(greys) if name in fixed else next(strong) for name in names}


def _draw_kept(
    axes: "Axes",
    courses: Mapping[str, Mapping[str, Sequence[float]]],
    fixed: Collection[str],
    colours: Mapping[str, str],
) -> None:
    """What each policy kept against the share of trainings, and the line of the fixed intervals."""
    always = np.nansum(next(iter(courses.values()))["metric"])
    points = {
        name: (float(np.mean(course["trainings"])), np.nansum(course["metric"]) / always)
        for name, course in courses.items()
    }
    axes.plot(*zip(*sorted(points[name] for name in fixed), strict=True), ":", color="grey", zorder=0)
    for name, point in points.items():
        axes.plot(*point, "o", color=colours[name])
        if name in fixed:
            axes.annotate(name.removeprefix("every "), point, (4, 4), textcoords="offset points", fontsize=7)


def _label(panels: Mapping[str, "Axes"], metric: str) -> None:
    from matplotlib.dates import ConciseDateFormatter
    from matplotlib.ticker import EngFormatter, PercentFormatter

    titles = {"metric": f"{metric}, mean of {SMOOTH} windows", "kept": "kept of what training always has"}
    for name, axes in panels.items():
        axes.set_title(titles.get(name, f"{name}, so far"))
        axes.spines[["top", "right"]].set_visible(False)
        if name != "kept":
            axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
    panels["bytes"].yaxis.set_major_formatter(EngFormatter("B"))
    panels["kept"].xaxis.set_major_formatter(PercentFormatter(1.0))
    panels["kept"].yaxis.set_major_formatter(PercentFormatter(1.0))
    panels["kept"].set_xlabel("trainings, as a share of always")


def _smooth(values: Sequence[float]) -> NDArray[np.float64]:
    """The mean of the last `SMOOTH` values that are known, NaN where none is."""
    padded = np.concatenate([np.full(SMOOTH - 1, np.nan), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, SMOOTH)
    known = (~np.isnan(windows)).sum(axis=1)
    return np.where(known > 0, np.nansum(windows, axis=1) / np.maximum(known, 1), np.nan)


def growth_figure(history: Mapping[int, float], metric: str, of: str) -> "Figure":
    """`metric` of the consortium's validation parts by how many there are `of` what is learned."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(list(history), list(history.values()), "o-", color=COLOURS["consortium"])
    axes.set_xlabel(of)
    axes.set_ylabel(f"{metric} on validation")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def bars_figure(values: Mapping[str, float], label: str) -> "Figure":
    """One bar a feature, in the order of `values` from the top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1 + 0.28 * max(len(values), 3)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(values)), list(values.values()), color=COLOURS["consortium"])
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def gain_table(participants: Mapping[str, Mapping[str, float | None]], metric: str) -> str:
    """The same as Markdown; the cells of who does not disclose are empty."""
    lines = [f"| {metric} | alone | consortium | change |", "|---|--:|--:|--:|"]
    for name, told in participants.items():
        alone, together = told.get("alone"), told.get("consortium")
        change = f"{together / alone - 1:+.1%}" if alone and together is not None else ""
        cells = ["" if value is None else f"{value:.4f}" for value in (alone, together)]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {change} |")
    return "\n".join(lines)


def _told(shown: Mapping[str, Mapping[str, float | None]], arm: str) -> dict[int, float]:
    """Place of a participant to its figure of `arm`, where it has one."""
    figures = (told.get(arm) for told in shown.values())
    return {place: figure for place, figure in enumerate(figures) if figure is not None}
