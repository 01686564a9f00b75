"""The command line: a function for each command of `chorus`.

Heavy imports wait inside the commands, so that `chorus --help` answers at once.
"""

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from flows import cli_schedule
from flows.arguments import HERE, Config, Data, Json, RunName
from flows.telling import drawable, tell

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Train one recommender over several organisations that may not pool their users' behaviour.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 refused by policy, 4 too few participants, "
    "5 a participant was lost, 130 interrupted.",
)
app.add_typer(cli_schedule.app, name="schedule")


@app.command()
def init(path: Annotated[Path, typer.Argument(help="where to write it")] = HERE) -> None:
    """Write a commented consortium.yaml to start from."""
    from flows import setup

    setup.write_template(path)


@app.command()
def check(consortium: Config, data: Data = None, json: Json = None) -> None:
    """Validate a consortium and every participant's data, without training.

    Example: `chorus check examples/xmarket.yaml --data ~/xmarket`
    """
    from flows import setup

    setup.check(consortium, data, json)


@app.command()
def run(consortium: Config, data: Data = None, json: Json = None) -> None:
    """Train the consortium's recommender and register it: the main job.

    Example: `chorus run examples/xmarket.yaml --data ~/xmarket --json figures.json`
    """
    from flows import operate

    operate.start(consortium, data, json)


@app.command()
def resume(name: RunName, consortium: Config, data: Data = None, json: Json = None) -> None:
    """Go on with a run that was interrupted; what it finished is not done again.

    Example: `chorus resume 20261128-094613-33f3 examples/demo.yaml`
    """
    from flows import operate

    operate.resume(name, consortium, data, json)


@app.command()
def rerun(
    name: RunName,
    consortium: Config,
    participant: Annotated[
        str | None, typer.Option("--participant", help="whose part of the round to redo, though it is done")
    ] = None,
    data: Data = None,
    json: Json = None,
) -> None:
    """Redo what failed in a run, and nothing else; a scheduled run is retried as from Prefect's page.

    Example: `chorus rerun scheduled-0123456789ab examples/demo.yaml --participant north`
    """
    from flows import operate

    operate.rerun(name, participant, consortium, data, json)


@app.command()
def runs(consortium: Config, json: Json = None) -> None:
    """List the runs of a consortium: when, how far, how good."""
    from flows import listing

    listing.list_runs(consortium, json)


@app.command()
def recommend(
    consortium: Config,
    user: Annotated[str | None, typer.Option("--user", help="a user of the participant")] = None,
    history: Annotated[str | None, typer.Option("--history", help="item ids, comma separated")] = None,
    participant: Annotated[str | None, typer.Option("--participant", help="whose model and users")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="length of the list")] = 10,
    json: Json = None,
) -> None:
    """Recommend items to a participant's user, or to anyone from a history of items.

    Examples: `chorus recommend examples/demo.yaml --participant north --user north-00017`;
    `chorus recommend examples/demo.yaml --history item-00003,item-00009` asks the consortium's common model.
    """
    from flows import operate

    operate.recommend(consortium, participant, user, history, top, json)


@app.command()
def compare(consortium: Config, data: Data = None, json: Json = None) -> None:
    """Train alone, in the consortium and on pooled rows, and show the three side by side.

    For data that lies on one machine anyway: pooling happens in this command only.
    """
    from flows import operate

    operate.start(consortium, data, json, pooled=True)


@app.command()
def replay(
    consortium: Config,
    data: Data = None,
    json: Json = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PATH", callback=drawable, help="draw it here, a .png")
    ] = None,
    step: Annotated[
        float, typer.Option("--step", min=0.01, max=2000, help="days between two chances to train")
    ] = 7,
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
def identity(
    consortium: Config,
    name: Annotated[str | None, typer.Option("--as", help="which participant; none: the coordinator")] = None,
) -> None:
    """Make the key and the certificate of a participant on another machine, or of the coordinator.

    Example: `chorus identity consortium.yaml --as north`
    """
    from flows import joining

    joining.make_identity(consortium, name)


@app.command()
def join(
    consortium: Config,
    name: Annotated[str, typer.Option("--as", help="as which participant")],
    data: Data = None,
) -> None:
    """Take part from a machine of one's own, whenever the coordinator trains, until Ctrl-C.

    Example: `chorus join consortium.yaml --as north`
    """
    from flows import joining

    joining.join(consortium, name, data)


@app.command()
def ui(consortium: Config) -> None:
    """Show the MLflow and Prefect pages of a consortium until Ctrl-C."""
    from flows import operate

    operate.show_pages(consortium)


@app.command()
def serve(
    consortium: Config,
    data: Data = None,
    port: Annotated[
        int, typer.Option("--port", min=1, max=65_535, help="where Prefect's pages and API are")
    ] = 4200,
) -> None:
    """Train on a schedule, on this machine: a Prefect server, the deployments and a worker, until Ctrl-C.

    Example: `chorus serve examples/demo.yaml`
    """
    from flows import serving

    serving.serve(consortium, data, port)


@app.command()
def deploy(
    consortium: Config,
    data: Data = None,
    pool: Annotated[str, typer.Option("--pool", help="the work pool whose workers train")] = "chorus",
    image: Annotated[
        str | None, typer.Option("--image", help="for pools that start containers: the image to start")
    ] = None,
) -> None:
    """Make the same deployments at a Prefect server of yours; its workers train.

    The server is prefect_api_url of the consortium's file, or PREFECT_API_URL.
    Example: `PREFECT_API_URL=http://prefect:4200/api chorus deploy consortium.yaml --pool nights`
    """
    from flows import serving

    serving.deploy(consortium, data, pool, image)


@app.command()
def promote(
    which: Annotated[str, typer.Argument(metavar="RUN|VERSION", help="a run's name or a version's number")],
    consortium: Config,
    json: Json = None,
) -> None:
    """Make a registered model the champion, whatever the gate said of it.

    Example: `chorus promote 7 examples/demo.yaml`
    """
    from flows import champion

    champion.promote(which, consortium, json)


@app.command()
def rollback(consortium: Config, json: Json = None) -> None:
    """Go back to the model that was champion before; once more goes further back.

    Example: `chorus rollback examples/demo.yaml`
    """
    from flows import champion

    champion.rollback(consortium, json)


def main() -> None:
    """Run a command; what a user can mend is told in a sentence, and the exit code says its kind."""
    os.umask(0o077)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a model's bits do not depend on the number of cores
    try:
        code = app(standalone_mode=False)  # returned, not raised: 0 of --help, 130 of Ctrl-C
    except typer._click.exceptions.ClickException as error:
        error.show()
        code = 2
    except Exception as error:
        code = tell(error)
    if code == 130:
        typer.echo("interrupted", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
