"""What may be imported, and when: the rest of the rules is in pyproject.toml, for import-linter."""

import subprocess
import sys

import pytest


def loaded(statement):
    code = f"{statement}; import sys; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


CORE = ["federation.rounds", "federation.simulate", "federation.participant", "recommenders.item_to_item"]
STORE = ["feature_store.importing", "feature_store.as_of", "feature_store.world"]


@pytest.mark.parametrize("module", CORE + STORE)
def test_the_core_knows_neither_prefect_nor_mlflow(module):
    assert not loaded(f"import {module}") & {"prefect", "mlflow"}


def test_prefect_waits_until_its_settings_stand():
    assert "prefect" not in loaded(
        "import flows.operate, flows.setup, flows.serving, flows.schedule, tasks.opening"
    )


def test_the_command_line_answers_at_once():
    assert not loaded("import flows.cli") & {"prefect", "mlflow", "pandas", "pyarrow", "numpy", "lightgbm"}


def test_commands_that_train_nothing_do_not_wait_for_lightgbm():
    commands = "flows.setup, flows.listing, flows.operate, flows.champion, flows.cli_schedule, flows.serving"
    assert not loaded(f"import {commands}") & {"lightgbm", "sklearn"}
