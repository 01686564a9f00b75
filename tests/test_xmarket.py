"""The main job on real marketplaces; the folder is `$CHORUS_DATA/xmarket`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def marketplaces():
    """The folder of the marketplaces' files."""
    folder = Path(os.environ.get("CHORUS_DATA", "nowhere")) / "xmarket"
    if not folder.is_dir():
        pytest.skip("CHORUS_DATA names no folder with xmarket/ca_5core.txt and the others")
    return folder


def chorus(folder, *arguments):
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments), "--json", "figures.json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("example", "folder", "rows"),
    [("xmarket", "xmarket", 151_418), ("xmarket-last", "xmarket", 151_418), ("movielens", "", 242_531)],
)
def test_the_examples_fit_the_real_files(example, folder, rows, marketplaces, tmp_path):
    done = chorus(
        tmp_path, "check", ROOT / f"examples/{example}.yaml", "--data", marketplaces.parent / folder
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "figures.json").read_text())["participants"].values()
    assert sum(each["cleaning"]["rows_read"] for each in found) == rows


@pytest.mark.slow
@pytest.mark.parametrize("example", ["xmarket", "xmarket-last"])
def test_nobody_is_worse_off_than_alone(example, marketplaces, tmp_path):
    done = chorus(tmp_path, "run", ROOT / f"examples/{example}.yaml", "--data", marketplaces)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures["participants"]) == 7
    gains = {
        name: told["consortium"]["ndcg_at_10"] - told["alone"]["ndcg_at_10"]
        for name, told in figures["participants"].items()
    }
    overall = figures["overall"]
    assert overall["consortium"]["ndcg_at_10"] > overall["alone"]["ndcg_at_10"]
    if example == "xmarket-last":
        assert overall["consortium"]["ndcg_at_10"] >= 0.3265
        assert min(gains.values()) > -0.001
        assert gains["jp"] >= 0.05 * figures["participants"]["jp"]["alone"]["ndcg_at_10"]
