"""Tables that a manager can read, and the same figures as JSON."""

import json as json_text
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from flows.consortium import Consortium

if TYPE_CHECKING:
    from mlruns_config.champions import Champions
    from tasks.replayed import Replayed

ARMS = {
    "alone": "alone",
    "consortium": "together",
    "pooled": "pooled",
    "bagged": "bagged",
    "reachable": "best",
}
"""What can be compared, in the order of the columns, and what each column is called."""
console = Console(markup=False, emoji=False)  # an id may be [new] or :new:


def show_figures(figures: Mapping[str, Any], consortium: Consortium, path: Path | None) -> None:
    """Each participant's rows, users, NDCG and hit rate, alone and in the consortium, and the change."""
    top = consortium.model.top
    arms = [arm for arm in ARMS if arm in figures["overall"]]
    console.print(f"\n{consortium.name}: run {figures['run']}", style="bold", highlight=False)
    for name, metric in ((f"NDCG@{top}", f"ndcg_at_{top}"), (f"hit rate@{top}", f"hit_rate_at_{top}")):
        columns = figure_columns("participant", "rows", "users", *(ARMS[arm] for arm in arms), "change")
        look = {"title": name, "title_justify": "left", "pad_edge": False, "padding": (0, 0, 0, 1)}
        table = Table(*columns, box=SIMPLE_HEAD, **look)
        for participant, told in figures["participants"].items():
            counts = _count(told["rows"]), _count(told["users"])
            table.add_row(participant, *counts, *_cells(told, arms, metric))
        table.add_section()
        table.add_row("all users", "", "", *_cells(figures["overall"], arms, metric))
        console.print(table)
    console.print(_caption(figures, top), highlight=False)
    if "gate" in figures:
        console.print(_judged(figures), highlight=False)
    for name, why in figures["lost"].items():
        console.print(f"{name} is not in these figures: {why}")
    for name in figures.get("exposed", ()):
        console.print(f"{name} was lost between two sums: its terms can be inferred")
    write_json(path, figures)


def show_next(path: Path) -> None:
    """What to type next, as it must be typed in this shell."""
    ui, runs = ((f"{typed()} {command} {typed_file(path)}", "bold") for command in ("ui", "runs"))
    console.print(Text.assemble("\nThe pages of MLflow and Prefect:  ", ui), soft_wrap=True)
    console.print(Text.assemble("The runs so far:                  ", runs), soft_wrap=True)


def show_runs(facts: Sequence[Mapping[str, Any]], champion: str | None, path: Path | None) -> None:
    """When, how far, how good, whether promoted or the champion now; below it why one was not finished."""
    names = "created (UTC)", "status", "NDCG", "version", "promoted"
    columns = Column("run", no_wrap=True), *(Column(name, overflow="fold") for name in names)
    table = Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for each in facts:
        figures, version = each.get("figures", {}), str(each.get("model_version") or "")
        overall = figures.get("overall", {}).get("consortium", {})
        ndcg = next((f"{value:.4f}" for name, value in overall.items() if name.startswith("ndcg_at_")), "")
        gate = figures.get("gate", {})
        promoted = "waits" if gate.get("waits") else {True: "yes", False: "no"}.get(gate.get("promote"), "")
        promoted = "champion" if each["run"] == champion else promoted
        when = _minute(each.get("created_at", ""))
        table.add_row(each["run"], when, each.get("status", ""), ndcg, version, promoted)
    console.print(table if facts else "No runs yet.")
    for each in filter(lambda told: told.get("reason"), facts):
        console.print(f"{each['run']}: {each['reason']}", highlight=False)
    write_json(path, {"champion": champion, "runs": list(facts)})


def show_list(answer: Mapping[str, Any], path: Path | None) -> None:
    """A recommendation, best first."""
    table = Table(Column("rank", justify="right"), *figure_columns("item", "score"), box=SIMPLE_HEAD)
    for rank, (item, score) in enumerate(zip(answer["items"], answer["scores"], strict=True), 1):
        table.add_row(str(rank), item, f"{score:.4f}")
    console.print(table if answer["items"] else "Nothing to recommend: all that could be listed was had.")
    write_json(path, answer)


def show_replay(found: "Replayed", consortium: Consortium) -> None:
    """What each policy kept of the metric, what it spent, and whether fixed intervals did better."""
    figures, metric = found.figures(), f"ndcg_at_{found.top}"
    columns = figure_columns("policy", f"NDCG@{found.top}", "kept", "trainings", "GB", "s", "regret", "over")
    look = {"title": f"{consortium.name}: {len(found.queries)} windows", "title_justify": "left"}
    table = Table(*columns, box=SIMPLE_HEAD, **look, show_edge=False, pad_edge=False)
    for each in found.followers:
        told = figures["policies"][each.name]
        table.add_row(
            each.name,
            f"{told[metric]:.4f}",
            f"{told['kept']:.1%} ±{100 * told['kept_half_interval']:.1f}",
            f"{told['trainings']} ({found.trained(each):.0%})",
            f"{told['bytes'] / 1e9:,.1f}",
            f"{told['seconds']:,.0f}",
            f"{told['regret']:.3f}",
            f"{found.over_fixed(each):+.2%}",
        )
    console.print(table)
    console.print(
        f"kept: share of what '{figures['always']}' has\n"
        "regret: how far the metric was below that, summed over the windows\n"
        "over: kept beyond what fixed intervals keep with as many trainings; s: processor seconds\n"
        "kept less the cost of the trainings, after the first quarter: "
        f"{', '.join(_late(found, figures['policies']))}\n"
        "±: half of the 95 % bootstrap interval; in the last line, of the distance from the best",
        highlight=False,
    )


def show_schedule(told: Mapping[str, Mapping[str, Any]], live: bool, path: Path | None) -> None:
    """What runs when: as configured, as decided, as pinned, and as Prefect has it."""
    columns = Column("deployment", no_wrap=True), "configured", "decided", "pinned", "Prefect has"
    table = Table(*columns, box=SIMPLE_HEAD)
    for flow, each in told.items():
        pinned = f"{each['pinned']}, by {each['pinned_by']}" if each["pinned"] else ""
        prefect = f"{each['prefect'] or ''}{' (deployment paused)' if each['paused'] else ''}"
        table.add_row(flow, each["configured"], each["decided"], pinned, prefect)
    console.print(table if told else "Nothing is deployed yet: chorus serve, or chorus deploy.")
    if told and not live:
        console.print("No Prefect server is running here; this is the record that the next one starts from.")
    write_json(path, {"deployments": dict(told)})


def show_decisions(decisions: Sequence[Mapping[str, Any]], path: Path | None) -> None:
    """How often to train, decision by decision."""
    table = Table("", "when (UTC)", "policy", "from", "to", "why", box=SIMPLE_HEAD)
    for each in decisions:
        at = _minute(each["at"])
        table.add_row(str(each["number"]), at, each["policy"], each["old"], each["new"], each["reason"])
    console.print(table if decisions else "No decisions yet.")
    write_json(path, {"decisions": list(decisions)})


def say(text: str) -> None:
    """A line for whoever waits; figures alone go to standard output."""
    sys.stderr.write(text + "\n")


def show_champions(champions: "Champions", path: Path | None) -> None:
    """How each champion came there, oldest first; the last line is the present one."""
    changes = [each.model_dump(mode="json") for each in champions.changes()]
    table = Table("when (UTC)", "", "from", "to", "why", box=SIMPLE_HEAD)
    for each in changes:
        at, before = _minute(each["at"]), str(each["before"] or "")
        table.add_row(at, each["kind"], before, str(each["version"]), each["reason"])
    console.print(table)
    version, run = champions.version(), champions.run()
    console.print(f"The champion is version {version}, of run {run}.", highlight=False)
    write_json(path, {"champion": version, "run": run, "changes": changes})


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    """The same figures at `path`, if one was asked for."""
    if path is not None:
        path.write_text(json_text.dumps(figures, indent=1) + "\n")


def figure_columns(first: str, *others: str) -> list[Column]:
    """A column of names, which a narrow terminal folds, and one of figures for each of the others."""
    return [Column(first, overflow="fold"), *(Column(each, justify="right", no_wrap=True) for each in others)]


def _late(found: "Replayed", policies: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What each policy that adjusts itself kept of late, less its costs."""
    for each in found.dynamic:
        told = policies[each.name]
        distance = "" if each is found.best_late else f" ±{100 * told['late_half_interval']:.2f}"
        yield f"{each.name} {told['late_worth']:.2%}{distance}"


def _cells(told: Mapping[str, Any], arms: Sequence[str], metric: str) -> list[str]:
    values = {arm: (told.get(arm) or {}).get(metric) for arm in arms}
    cells = ["" if value is None else f"{value:.4f}".removeprefix("0") for value in values.values()]
    alone, together = values["alone"], values["consortium"]
    if not alone or together is None:
        return [*cells, ""]
    low, high = (told["consortium"].get(f"{metric}_gain_{end}") for end in ("low", "high"))
    error = "" if low is None else f" ±{(high - low) / 2 / alone * 100:.0f}"
    return [*cells, f"{together / alone - 1:+.1%}{error}"]


def typed() -> str:
    """The command as it must be typed in this shell."""
    program = Path(sys.argv[0])
    if shutil.which("chorus") == str(program):
        return "chorus"
    here = Path.cwd()
    return str(program.relative_to(here) if program.is_relative_to(here) else program)


def typed_file(path: Path, data: Path | None = None) -> str:
    """The arguments that name the consortium's file, and where its data lie, as they must be typed."""
    return shlex.join([str(path), *(["--data", str(data)] if data else [])])


def _judged(figures: Mapping[str, Any]) -> str:
    """Whether the run's model is the champion, and why; who came and went since the run before."""
    gate = figures["gate"]
    state = "is the champion" if gate["promote"] else f"is version {figures['model_version']}"
    state += ", waiting for `chorus promote`" if gate["waits"] else ""
    since = "; ".join(f"{', '.join(gate[kind])} {kind}" for kind in ("joined", "left") if gate[kind])
    return f"This model {state}. {gate['reason']}" + (f" Since the run before, {since}." if since else "")


def _minute(moment: object) -> str:
    """A moment in ISO format, cut at its minute."""
    return str(moment)[:16].replace("T", " ")


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _caption(figures: Mapping[str, Any], top: int) -> str:
    popularity = figures["overall"].get("popularity", {}).get(f"ndcg_at_{top}")
    lines = [
        "alone: the participant's own rows only; together: in the consortium",
        "±: half of the 95 % bootstrap interval of the change, over the queries",
    ]
    if "pooled" in figures["overall"]:
        lines.append("pooled: one model of everybody's rows in one place")
    if "bagged" in figures["overall"]:
        lines.append(
            "bagged: each participant grows trees and shows them to all, as other systems do; not private"
        )
    if "reachable" in figures["overall"]:
        lines.append("best: the most that can be reached, as the generator of the events knows")
    if popularity is not None:
        lines.append(
            f"for comparison, what sold most lately, the same list for all of a participant's users: "
            f"NDCG@{top} {popularity:.4f}"
        )
    scored = {name: told["consortium"] or {} for name, told in figures["participants"].items()}
    if nobody := [name for name, told in scored.items() if told.get("queries") == 0]:
        lines.append(f"no figures of {', '.join(nobody)}: no user to ask about in the test part")
    return "\n".join(lines)
