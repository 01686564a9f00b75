"""Tables that a manager can read, and the same figures as JSON."""

import json as json_text
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from flows.consortium import Consortium

ARMS = ("alone", "consortium", "pooled", "reachable")
HEADS = {"alone": "alone", "consortium": "together", "pooled": "pooled", "reachable": "best"}
console = Console()


def show_figures(figures: Mapping[str, Any], consortium: Consortium, path: Path | None) -> None:
    """Each participant's rows, users, NDCG and hit rate, alone and in the consortium, and the change."""
    top = consortium.model.top
    arms = [arm for arm in ARMS if arm in figures["overall"]]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), title=f"{consortium.name}: run {figures['run']}")
    for column in ("\nparticipant", "\nrows", "\nusers"):
        table.add_column(column, justify="left" if "part" in column else "right", no_wrap=True)
    for name in (f"NDCG@{top}", f"hit rate@{top}"):
        for arm, label in zip([*arms, "change"], [*(HEADS[arm] for arm in arms), "change"], strict=True):
            table.add_column(f"{name if arm == 'alone' else ''}\n{label}", justify="right", no_wrap=True)
    for name, told in figures["participants"].items():
        table.add_row(name, _count(told["rows"]), _count(told["users"]), *_cells(told, arms, top))
    table.add_section()
    table.add_row("all users", "", "", *_cells(figures["overall"], arms, top))
    console.print(table)
    console.print(_caption(figures, top), highlight=False)
    for name, why in figures["lost"].items():
        console.print(f"{name} is not in these figures: {why}")
    write_json(path, figures)


def show_next(path: Path, consortium: Consortium) -> None:
    """What to type next, as it must be typed in this shell."""
    chorus = ".venv/bin/chorus" if Path(".venv/bin/chorus").exists() else "chorus"
    file = shlex.quote(str(path))
    console.print(f"\nThe pages of MLflow and Prefect:  [bold]{chorus} ui {file}[/bold]", highlight=False)
    console.print(f"The runs so far:                  [bold]{chorus} runs {file}[/bold]", highlight=False)


def show_runs(facts: Sequence[Mapping[str, Any]], path: Path | None) -> None:
    """When, how far and how good."""
    table = Table()
    for column in ("run", "created", "status", "NDCG", "registered", "reason"):
        table.add_column(column)
    for each in facts:
        overall = each.get("figures", {}).get("overall", {}).get("consortium", {})
        ndcg = next((f"{value:.4f}" for name, value in overall.items() if name.startswith("ndcg_at_")), "")
        version = f"version {each['model_version']}" if each.get("model_version") else ""
        created = str(each.get("created_at", ""))
        table.add_row(each["run"], created, each.get("status", ""), ndcg, version, each.get("reason") or "")
    console.print(table if facts else "No runs yet.")
    write_json(path, {"runs": list(facts)})


def show_list(answer: Mapping[str, Any], path: Path | None) -> None:
    """A recommendation, best first."""
    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("item")
    table.add_column("score", justify="right")
    for rank, (item, score) in enumerate(zip(answer["items"], answer["scores"], strict=True), 1):
        table.add_row(str(rank), item, f"{score:.4f}")
    console.print(table)
    write_json(path, answer)


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    """The same figures at `path`, if one was asked for."""
    if path is not None:
        path.write_text(json_text.dumps(figures, indent=1) + "\n")


def _cells(told: Mapping[str, Any], arms: Sequence[str], top: int) -> list[str]:
    cells = []
    for metric in (f"ndcg_at_{top}", f"hit_rate_at_{top}"):
        values = {arm: (told.get(arm) or {}).get(metric) for arm in arms}
        cells += ["" if value is None else f"{value:.4f}".lstrip("0") for value in values.values()]
        alone, together = values["alone"], values["consortium"]
        cells.append("" if not alone or together is None else f"{together / alone - 1:+.1%}")
    return cells


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _caption(figures: Mapping[str, Any], top: int) -> str:
    popularity = figures["overall"].get("popularity", {}).get(f"ndcg_at_{top}")
    lines = ["alone: the participant's own rows only; together: in the consortium"]
    if "pooled" in figures["overall"]:
        lines.append("pooled: one model of everybody's rows in one place")
    if "reachable" in figures["overall"]:
        lines.append("best: the most that can be reached, as the generator of the events knows")
    if popularity is not None:
        lines.append(f"recency popularity of the own users, for all: NDCG@{top} {popularity:.4f}")
    return "\n".join(lines)
