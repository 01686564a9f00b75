"""A run as an argument of Prefect's tasks."""

import pytest
from prefect.utilities.engine import collect_task_run_inputs_sync

from feature_store.splits import LeaveLastOut
from federation.gate import GateConfig
from federation.policy import RoundPolicy
from mlruns_config.tracking import Tracking, TrackingConfig
from tasks.model import ModelConfig
from tasks.run import Run
from tasks.runs import RunFolder


class Untouched(dict):
    def items(self):
        raise AssertionError("somebody looks behind the doors")


def test_prefect_does_not_look_behind_the_doors_of_a_quoted_run(tmp_path):
    run = Run(
        folder=RunFolder(tmp_path / "a-run"),
        doors=Untouched(),
        policy=RoundPolicy(),
        gate=GateConfig(),
        fingerprint="f",
        tracking=Tracking(TrackingConfig(), tmp_path),
        catalogue=tmp_path / "catalogue.txt",
        consortium="c",
        model=ModelConfig(),
        split=LeaveLastOut(),
    )
    assert collect_task_run_inputs_sync(run.quoted) == set()
    with pytest.raises(AssertionError, match="behind the doors"):
        collect_task_run_inputs_sync(run)
