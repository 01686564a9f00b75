"""What several commands are given: the consortium's file, its data, a run, where figures go."""

from pathlib import Path
from typing import Annotated

import typer

from flows.telling import writable

HERE = Path("consortium.yaml")
DEMO = Path("examples/demo.yaml")


def nearest() -> Path:
    """The consortium of this folder; where it has none, the demo's, if that is here."""
    return DEMO if DEMO.exists() and not HERE.exists() else HERE


Config = Annotated[
    Path,
    typer.Argument(
        metavar="CONSORTIUM",
        default_factory=nearest,
        show_default=f"{HERE}; without one {DEMO}",
        help="the consortium's file",
    ),
]
Data = Annotated[Path | None, typer.Option("--data", help="folder that the participants' paths start from")]
Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="PATH", callback=writable, help="write the figures here, too"),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="a run's name, as `chorus runs` shows it")]
