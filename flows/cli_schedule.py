"""The command line: `chorus schedule show | pin | unpin | history`."""

from typing import Annotated

import typer

from flows.arguments import Config, Json

app = typer.Typer(no_args_is_help=True, help="See and pin how often the consortium trains.")


@app.command()
def show(consortium: Config, json: Json = None) -> None:
    """Show what runs when: configured, decided by a policy, pinned, and what Prefect has."""
    from flows import schedule

    schedule.show(consortium, json)


@app.command()
def pin(
    every: Annotated[str, typer.Argument(metavar="EVERY", help="1d, 6h, 90m, or a cron line in quotes")],
    consortium: Config,
) -> None:
    """Train at this interval from now on, whatever the policy says.

    Examples: `chorus schedule pin 1d examples/demo.yaml`; `chorus schedule pin "0 3 * * 1"`
    """
    from flows import schedule

    schedule.pin(consortium, every)


@app.command()
def unpin(consortium: Config) -> None:
    """Let configuration and policy decide again; a schedule edited in Prefect's page is a pin, too."""
    from flows import schedule

    schedule.unpin(consortium)


@app.command()
def history(consortium: Config, json: Json = None) -> None:
    """List all decisions about the interval, each with its reason."""
    from flows import schedule

    schedule.history(consortium, json)
