"""A person's approval at a real Prefect server."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from prefect import flow
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows import approval
from flows.consortium import read_consortium

FIGURES = {"run": "r", "model_version": 2, "gate": {"waits": True, "reason": "better"}}


def until_paused(client):
    """The flow run that waits for an answer."""
    paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=["PAUSED"])))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := client.read_flow_runs(flow_run_filter=paused):
            return found[0]
        time.sleep(0.1)
    pytest.fail("no flow run has paused")


def test_a_retry_asks_again(client, tiny, monkeypatch):
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
            client.resume_flow_run(until_paused(client).id, run_input={"promote": promote})
        asked.result()
    assert heard == [True, False]
