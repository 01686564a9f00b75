"""The command line: `chorus init | check | run | resume | rerun | runs | recommend | compare | replay | ui`.

Heavy imports wait inside the commands, so that `chorus --help` answers at once.
"""

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Train one recommender over several organisations that may not pool their users' behaviour.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 refused by policy, 4 too few participants, "
    "5 a participant was lost, 130 interrupted.",
)

Config = Annotated[Path, typer.Argument(metavar="CONSORTIUM", help="the consortium's file, a .yaml")]
Data = Annotated[Path | None, typer.Option("--data", help="folder that the participants' paths start from")]
Json = Annotated[Path | None, typer.Option("--json", metavar="PATH", help="write the figures here, too")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="a run's name, as `chorus runs` shows it")]
DEMO = Path("examples/demo.yaml")
HERE = Path("consortium.yaml")


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="where to write it")] = HERE,
    catalogue: Annotated[
        Path | None,
        typer.Option("--catalogue", help="make the union of the participants' item ids of this consortium"),
    ] = None,
    data: Data = None,
) -> None:
    """Write a commented consortium.yaml to start from, or make the common catalogue.

    `chorus init` writes consortium.yaml; `chorus init --catalogue consortium.yaml` then shows every
    participant's item ids to make their union, which is a disclosure, and says so.
    """
    from flows import setup

    if catalogue is None:
        setup.write_template(path)
    else:
        setup.make_catalogue(catalogue, data)


@app.command()
def check(consortium: Config = HERE, data: Data = None, json: Json = None) -> None:
    """Validate a consortium and every participant's data, without training.

    Example: `chorus check examples/xmarket.yaml --data ~/xmarket`
    """
    from flows import setup

    setup.check(consortium, data, json)


@app.command()
def run(consortium: Config = DEMO, data: Data = None, json: Json = None) -> None:
    """Train the consortium's recommender and register it: the main job.

    Example: `chorus run examples/xmarket.yaml --data ~/xmarket --json figures.json`
    """
    from flows import operate

    operate.start(consortium, data, json)


@app.command()
def resume(name: RunName, consortium: Config = DEMO, data: Data = None, json: Json = None) -> None:
    """Go on with a run that was interrupted; what it finished is not done again.

    Example: `chorus resume brave-otter-1a2b examples/demo.yaml`
    """
    from flows import operate

    operate.resume(name, consortium, data, json)


@app.command()
def rerun(
    name: RunName,
    participant: Annotated[str, typer.Option("--participant", help="whose part of the round to redo")],
    consortium: Config = DEMO,
    data: Data = None,
    json: Json = None,
) -> None:
    """Redo one participant's part of the round that failed, and go on with the run.

    Example: `chorus rerun brave-otter-1a2b --participant north`
    """
    from flows import operate

    operate.rerun(name, participant, consortium, data, json)


@app.command()
def runs(consortium: Config = DEMO, json: Json = None) -> None:
    """List the runs of a consortium: when, how far, how good."""
    from flows import operate

    operate.list_runs(consortium, json)


@app.command()
def recommend(
    consortium: Config = DEMO,
    user: Annotated[str | None, typer.Option("--user", help="a user of the participant")] = None,
    history: Annotated[str | None, typer.Option("--history", help="item ids, comma separated")] = None,
    participant: Annotated[str | None, typer.Option("--participant", help="whose model and users")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="length of the list")] = 10,
    json: Json = None,
) -> None:
    """Recommend items to a participant's user, or to anyone from a history of items.

    Examples: `chorus recommend examples/demo.yaml --participant north --user north-u17`;
    `chorus recommend examples/demo.yaml --history item-3,item-9` asks the consortium's common model.
    """
    from flows import operate

    operate.recommend(consortium, participant, user, history, top, json)


@app.command()
def compare(consortium: Config = DEMO, data: Data = None, json: Json = None) -> None:
    """Train alone, in the consortium and on pooled rows, and show the three side by side.

    For data that lies on one machine anyway: pooling happens in this command only.
    """
    from flows import operate

    operate.compare(consortium, data, json)


@app.command()
def replay(
    consortium: Config = DEMO,
    data: Data = None,
    json: Json = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="PATH", help="draw it here, a .png")] = None,
    step: Annotated[float, typer.Option("--step", min=0.01, help="days between two chances to train")] = 7,
    begin: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="first day; none: after a fifth")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="day after the last; none: all")
    ] = None,
) -> None:
    """Run policies of update frequency side by side over the history, in virtual time.

    Example: `chorus replay examples/xmarket.yaml --data ~/xmarket --from 2015-01-01 --plot replay.png`
    """
    from flows import replay

    replay.start(consortium, data, json, plot, step, begin, end)


@app.command()
def ui(consortium: Config = DEMO) -> None:
    """Show the MLflow and Prefect pages of a consortium until Ctrl-C."""
    from flows import operate

    operate.show_pages(consortium)


def main() -> None:
    """Run a command; what a user can mend is told in a sentence, and the exit code says its kind."""
    os.umask(0o077)
    try:
        app(standalone_mode=False)
    except typer._click.exceptions.ClickException as error:
        error.show()
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except Exception as error:
        sys.exit(_tell(error))


def _tell(error: Exception) -> int:
    code = getattr(error, "exit_code", None)
    if code is None:
        raise error
    typer.echo(f"chorus: {error}", err=True)
    return int(code)


if __name__ == "__main__":
    main()
