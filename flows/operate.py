"""What the commands do: one training at a time on a state folder, with a Prefect server while it lasts."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from federation.errors import BadInput, Lost, TooFew
from flows import tables
from flows.consortium import Consortium, read_consortium
from flows.data import generate_world, require_data, require_here
from flows.schedule import server_client
from flows.unlisted import warn_of_unlisted
from mlruns_config import places
from mlruns_config.champions import Champions
from mlruns_config.tracking import Tracking
from tasks import flow_runs, locks, server
from tasks.runs import RunFolder, all_runs, find_run, new_name

PATIENCE_SECONDS = 6 * 3_600.0
"""How long what a schedule starts waits for what works on the state folder, as another that began with it."""

SILENT_END = "its process ended without a word; `chorus resume` goes on with it"
CRASHED = {"status": "crashed", "reason": SILENT_END}
"""What is noted of a run that says that it is running, and whose process is gone."""

SILENCE_SECONDS = 20.0
"""How long MLflow may take to hear of runs whose process was killed."""


def start(path: Path, data: Path | None, json: Path | None, pooled: bool = False) -> None:
    """A new run of the consortium in the file at `path`, and its table; `pooled`: of pooled rows, too."""
    consortium = read_consortium(path, data)
    require_data(consortium)
    if pooled:
        require_here(consortium, "chorus compare")
    _train(consortium, new_name(), path, data, json, pooled=pooled)


def resume(run: str, path: Path, data: Path | None, json: Path | None) -> None:
    """Go on with `run`; a finished one only shows its table again."""
    consortium = read_consortium(path, data)
    facts = find_run(consortium.home, run).facts
    if facts.get("status") == "finished":
        tables.show_figures(facts["figures"], consortium, json)
        return
    if facts.get("status") == "skipped":  # what too few brought would be the difference of two sums
        raise BadInput(f"run '{run}' is skipped: {facts['reason']}; expected one that was interrupted")
    _train(consortium, run, path, data, json)


def rerun(run: str, participant: str | None, path: Path, data: Path | None, json: Path | None) -> None:
    """Go on with `run` and redo what failed; what `participant` kept for it is dropped and redone, too.

    A scheduled run that a worker can take is retried where it ran, as by the button in Prefect's page; so is
    a finished one that was killed while it waited for a person.
    """
    consortium = read_consortium(path, data)
    folder = find_run(consortium.home, run)
    status = folder.facts.get("status")
    done = status in ("finished", "skipped")
    waits = done and folder.facts.get("figures", {}).get("gate", {}).get("waits", False)
    if participant is not None and participant not in consortium.names:
        raise BadInput(
            f"participant '{participant}' is not known; expected one of {', '.join(consortium.names)}"
        )
    if (waits or not done) and _retried(consortium, folder.facts.get("flow_run_id"), participant):
        tables.show_figures(folder.facts["figures"], consortium, json)
    elif done:
        raise BadInput(f"run '{run}' is {status}; expected one with a part to redo (start a new run instead)")
    else:
        _train(consortium, run, path, data, json, redo=participant)


def _retried(consortium: Consortium, flow_run_id: str | None, redo: str | None) -> bool:
    """Whether a worker has gone on with the run to its end."""
    with server_client(consortium) as client:
        if client is None or flow_run_id is None:
            return False
        from tasks import retrying

        if not retrying.retry(client, flow_run_id, redo):
            return False
        tables.console.print("A worker goes on with it; its steps are in Prefect's page.")
        retrying.wait(client, flow_run_id)
        return True


def recommend(
    path: Path, participant: str | None, user: str | None, history: str | None, top: int, json: Path | None
) -> None:
    """A list from the champion: a participant's own model for its user, or the common one."""
    given = [each is not None for each in (participant, user, history)]
    if given not in ([True, True, False], [False, False, True]):
        raise BadInput("expected --participant NAME --user ID, or --history ITEM,ITEM,... alone")
    consortium = read_consortium(path)
    champion = Champions(consortium.mlflow(), consortium.name).run()
    if champion is None:
        raise BadInput(
            f"{consortium.home}: has no champion yet; run `{tables.typed()} run {tables.typed_file(path)}`"
        )
    if participant is not None and user is not None:
        from tasks.answers import ask_participant

        answer = ask_participant(consortium.home, consortium.names, participant, champion, user, top)
    else:
        from tasks.answers import ask_common

        items = [item for item in (history or "").split(",") if item]
        answer = ask_common(consortium.home, consortium.settings(), items, top)
    tables.show_list(answer, json)


def show_pages(path: Path) -> None:
    """The pages of MLflow and Prefect, until Ctrl-C."""
    from flows import pages

    consortium = read_consortium(path)
    pages.show(consortium.home, consortium.tracking, consortium.prefect_api_url)


def _train(
    consortium: Consortium,
    run: str,
    path: Path,
    data: Path | None,
    json: Path | None,
    redo: str | None = None,
    pooled: bool = False,
) -> None:
    tables.say(
        f"run {run} of {consortium.name}: its data, then a Prefect server (the first start is the longest)"
    )
    again = f"{tables.typed()} resume {run} {tables.typed_file(path, data)}"
    with (
        at_work(consortium),
        server.prefect_server(consortium.home, consortium.prefect_api_url),
    ):
        tables.say(f"the server runs; if this run is interrupted: {again}")
        mark_crashed(consortium, resumed=run)
        try:
            figures = _flow(pooled)(consortium=consortium, run=run, redo=redo)
        except (KeyboardInterrupt, Lost, TooFew):
            tables.say(f"what is done is kept; to go on: {again}")
            raise
    tables.show_figures(figures, consortium, json)
    warn_of_unlisted(figures["participants"], consortium.catalogue_path)
    tables.show_next(path)


def _flow(pooled: bool) -> Callable[..., dict[str, Any]]:
    """The flow, wrapped so that its last states reach the server's database before it stops."""
    if pooled:
        from flows.compare import compare as flow
    else:
        from flows.train import train as flow

    def run(**arguments: Any) -> dict[str, Any]:
        try:
            with flow_runs.without_heartbeats():
                state = flow(**arguments, return_state=True)
        except KeyboardInterrupt:
            flow_runs.send_rest()
            raise
        flow_runs.settle(state.state_details.flow_run_id)
        figures: dict[str, Any] = state.result()
        return figures

    return run


@contextmanager
def at_work(consortium: Consortium, patience_seconds: float = 0.0) -> Iterator[None]:
    """Alone on the consortium's state, its world generated; raises `Refused` where another process is.

    With patience it is in a flow run, whose log says that it waits.
    """
    say = _log if patience_seconds else lambda _: None
    with locks.exclusive(consortium.home, patience_seconds, say):
        generate_world(consortium)
        places.settle(consortium.mlflow())
        yield


def _log(text: str) -> None:
    from prefect.logging import get_run_logger

    get_run_logger().info(text)


def mark_crashed(consortium: Consortium, but: str | None = None, resumed: str | None = None) -> None:
    """Note that every run which says that it is running has crashed, `but` the one of that name.

    It is called by who is alone on this state: the processes of such runs have died.  What becomes of the one
    that is `resumed` now it tells itself, as soon as it begins; where it does not, the next call does.
    """
    home, tracking = consortium.home, consortium.mlflow()
    dead = [each for each in all_runs(home) if each.facts.get("status") == "running" and each.run != but]
    noted = {each.facts["flow_run_id"] for each in dead if each.facts.get("flow_run_id")}
    flow_runs.mark_crashed(sorted(noted | set(flow_runs.unfinished(home))), SILENT_END)
    silent = [each for each in dead if each.run != resumed]
    for folder in silent:
        folder.note(**CRASHED)
    if silent:
        _tell_mlflow(tracking, silent)


def _tell_mlflow(tracking: Tracking, dead: Sequence[RunFolder]) -> None:
    """Tell MLflow that these runs have failed; one that is silent is left after `SILENCE_SECONDS`."""

    def tell() -> None:
        for folder in dead:
            with suppress(Exception):  # what comes now does not fail because MLflow cannot hear of these
                if folder.facts["status"] == "crashed":  # and was not resumed while another was waited for
                    tracking.finish(folder.facts["mlflow_run_id"], "FAILED")

    names = ", ".join(each.run for each in dead)
    tables.say(f"{names} ended without a word; telling MLflow ({SILENCE_SECONDS:g} s at most)")
    within_silence(tell)


def within_silence(speak: Callable[[], None]) -> None:
    """Speak with MLflow, and leave it after `SILENCE_SECONDS`, done or not."""
    speaking = threading.Thread(target=speak, daemon=True)
    speaking.start()
    speaking.join(SILENCE_SECONDS)
