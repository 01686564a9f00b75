"""A person's approval at a real Prefect server."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from prefect import flow
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows import approval
from flows.consortium import read_consortium

FIGURES = {"run": "r", "model_version": 2, "gate": {"waits": True, "reason": "better"}}


def test_a_retry_asks_again(client, until_paused, tiny, monkeypatch):
    heard = []

    def answer(promote, *_):
        heard.append(promote)
        if len(heard) == 1:
            raise OSError("ended before the answer was noted")
        return {}

    monkeypatch.setattr(approval, "POLL_SECONDS", 1)
    monkeypatch.setattr(approval, "answer", answer)
    monkeypatch.setattr(approval, "find_run", lambda *_: None)
    asks = flow(name="asks", retries=2)(lambda: approval.approved(FIGURES, consortium))
    consortium = read_consortium(tiny("approves"))
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(copy_context().run, asks)
        for promote in (True, False):
            client.resume_flow_run(until_paused().id, run_input={"promote": promote})
        asked.result()
    assert heard == [True, False]
