"""Preparation on other engines: the same store, the same model, and workers that really were elsewhere."""

import importlib.util
import json
import sqlite3
import traceback

import pytest

from federation.errors import BadInput, ChorusError
from flows.consortium import read_consortium
from tasks.engines import import_everywhere, import_participant


@pytest.fixture(scope="module")
def figures():
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threads", "processes", "dask", "ray"])
def test_a_training_gives_the_same_bits_on_every_engine(kind, tiny, chorus, tmp_path, figures):
    if kind == "ray":
        pytest.importorskip("prefect_ray", reason="the extra ray is not installed")
    path = tiny("engine", f"engine: {{kind: {kind}, workers: 2}}")
    chorus("run", path, "--json", tmp_path / "figures.json")
    told = json.loads((tmp_path / "figures.json").read_text())
    figures[kind] = (
        told["overall"],
        {name: each["data_version"] for name, each in told["participants"].items()},
    )
    assert figures[kind] == figures.get("threads", figures[kind])
    with sqlite3.connect(tmp_path / "state" / "engine" / "prefect" / "prefect.db") as database:
        imports = database.execute("select state_type from task_run where name like 'import %'").fetchall()
    assert imports == [] if kind == "threads" else [("COMPLETED",)] * 3


def test_an_engine_that_is_not_installed_is_named(tiny, tmp_path):
    if importlib.util.find_spec("prefect_ray"):
        pytest.skip("Ray is installed here")
    consortium = read_consortium(tiny("ray", "engine: {kind: ray}"))
    with pytest.raises(BadInput, match=r"engine.kind: found ray, .* expected `pip install prefect-ray`"):
        import_everywhere(tmp_path, consortium.memberships, consortium.engine)


def test_what_an_engine_tells_of_wrong_data_quotes_no_cell_of_it(tiny, tmp_path):
    """Prefect keeps the error of a task, its traceback too."""
    consortium = read_consortium(tiny("wrong"), data=tmp_path)
    (tmp_path / "east.csv").write_text("user,item,rating,time\nu,i,1,alice@example.org\n")
    told = r"column 'time': expected ISO dates .* \(its own log says more\)"
    with pytest.raises(ChorusError, match=told) as caught:
        import_participant(tmp_path / "east", consortium.membership(consortium.participants[0]))
    assert "alice" not in "".join(traceback.format_exception(caught.value))


def test_a_cluster_that_is_none_is_named(tiny, tmp_path):
    pytest.importorskip("prefect_dask", reason="the extra dask is not installed")
    consortium = read_consortium(tiny("none", "engine: {kind: dask, address: nope}"))
    east = consortium.membership(consortium.participants[0])
    with pytest.raises(BadInput, match=r"engine.address: found nope, expected a dask cluster's"):
        import_everywhere(tmp_path, [east], consortium.engine)
