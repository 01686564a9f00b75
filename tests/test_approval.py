"""A person's approval at a real Prefect server."""

import importlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from uuid import uuid4

from prefect import flow, flow_engine
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


def test_a_run_that_nobody_answers_completes(client, tiny, monkeypatch):
    monkeypatch.setattr(approval, "POLL_SECONDS", 1)
    monkeypatch.setattr(approval, "answer", lambda *told: {"promote": told[0], "reason": told[1]})
    monkeypatch.setattr(approval, "find_run", lambda *_: None)
    consortium = read_consortium(tiny("silent", "gate: {approval_hours: 0.001}"))
    asks = flow(name="silent")(lambda: approval.approved(FIGURES, consortium))
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        state = asks(return_state=True)
    assert client.read_flow_run(state.state_details.flow_run_id).state.is_completed()
    assert state.result() == {"promote": False, "reason": "Nobody answered within 0.001 hours."}


def test_a_run_that_waits_outlives_the_lease_that_its_pause_gave_back(api):
    importlib.import_module("flows.scheduled")
    with flow_engine.maintain_concurrency_lease(uuid4(), 0.2, raise_on_lease_renewal_failure=True):
        for thread in threading.enumerate():
            if thread.name.startswith("concurrency-lease-renewal"):
                thread.join(20)
