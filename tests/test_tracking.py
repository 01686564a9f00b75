"""Runs and models at a real MLflow store."""

import math
import shutil
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from federation.errors import BadInput
from federation.policy import RoundPolicy
from mlruns_config import places
from mlruns_config.champions import Champions
from mlruns_config.config import TrackingConfig
from mlruns_config.tracking import NoTracking, Tracking
from tasks.answers import ask_common
from tasks.opening import Settings


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    return Tracking(TrackingConfig(), tmp_path_factory.mktemp("tracking"))


def test_a_rerun_goes_on_in_the_same_run_and_repeats_no_step(tracking):
    run_id = tracking.start_or_continue("one", "demo one", {"seed": 1}, {"a": "b"})
    tracking.log_metrics(run_id, 0, {"ndcg_at_10": 0.25, "participant/north/ndcg_at_10": 0.5})
    tracking.finish(run_id, "FAILED")
    assert tracking.start_or_continue("one", "demo one", {"seed": 2}, {}) == run_id
    tracking.log_metrics(run_id, 0, {"late": 1.0, "ndcg_at_10": 0.25, "participant/north/ndcg_at_10": 0.5})
    tracking.log_metrics(run_id, 1, {"ndcg_at_10": 0.5, "nothing": math.nan, "too_much": math.inf})
    history = tracking.client.get_metric_history(run_id, "ndcg_at_10")
    assert [(each.step, each.value) for each in history] == [(0, 0.25), (1, 0.5)]
    history = tracking.client.get_metric_history(run_id, "participant/north/ndcg_at_10")
    assert [(each.step, each.value) for each in history] == [(0, 0.5)]
    run = tracking.client.get_run(run_id)
    assert run.data.params["seed"] == "1"
    assert run.data.metrics["late"] == 1
    assert not {"nothing", "too_much"} & run.data.metrics.keys()


def test_a_store_is_made_whole_and_by_one_of_two_processes(tmp_path, monkeypatch):
    def killed(tracking_uri, **_):
        Path(tracking_uri.removeprefix("sqlite:///")).write_bytes(b"half a store")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("mlflow.MlflowClient", killed)
        with pytest.raises(KeyboardInterrupt):
            experiments(tmp_path)
    with get_context("fork").Pool(2) as processes:
        made = processes.map(experiments, [tmp_path] * 2, chunksize=1)
    assert made == [["Default"]] * 2


def experiments(home):
    return [each.name for each in Tracking(TrackingConfig(), home).client.search_experiments()]


@pytest.mark.parametrize(
    ("uri", "shown", "why"),
    [
        ("postgresql://chorus:s3cret@h:1/m?x=s3cret", "postgresql://h:1/m", "No module named 'psycopg2'"),
        ("postgress://chorus:s3cret@h/m", "postgress://h/m", "got unsupported URI 'postgress://h/m'"),
        ("postgresql:chorus:s3cret@h", "postgresql:h", "Could not parse"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9", "API request to http://127.0.0.1:9/api"),
        ("mlruns", "mlruns", "The filesystem tracking backend"),
    ],
)
def test_a_store_that_cannot_be_opened_is_named_without_its_password(uri, shown, why, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(NoTracking) as caught:
        Tracking(TrackingConfig(uri=uri), tmp_path).client  # noqa: B018
    assert f"tracking.uri: found {shown}, expected a store" in str(caught.value)
    assert why in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_database_of_ones_own_has_its_models_in_the_state_folder_wherever_the_process_is(
    tmp_path, monkeypatch
):
    config = TrackingConfig(uri="sqlite:///own.db").under(tmp_path)
    assert TrackingConfig(uri=config.uri).under(tmp_path / "elsewhere") == config
    (tmp_path / "of a worker").mkdir()
    monkeypatch.chdir(tmp_path / "of a worker")
    tracking = Tracking(config, tmp_path / "state")
    place = tracking.client.get_experiment(tracking.experiment_id).artifact_location
    assert place == (tmp_path / "state" / "mlflow" / "artifacts").as_uri()
    assert (tmp_path / "own.db").is_file()


def test_a_run_tells_its_source_and_is_described_below_what_it_says(tracking):
    run_id = tracking.start_or_continue("told", "told", {}, {"mlflow.note.content": "[at Prefect](x)"})
    for _ in range(2):
        tracking.describe(run_id, "| a |")
    tags = tracking.client.get_run(run_id).data.tags
    assert tags["mlflow.note.content"] == "[at Prefect](x)\n\n| a |"
    assert tags["mlflow.source.name"] == "chorus"
    experiment = tracking.client.get_experiment(tracking.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_data_versions_are_inputs_once(tracking):
    run_id = tracking.start_or_continue("inputs", "inputs", {}, {})
    for _ in range(2):
        tracking.log_inputs(run_id, {"north": "a" * 64, "south": "b" * 64}, "training")
    inputs = tracking.client.get_run(run_id).inputs.dataset_inputs
    assert sorted(each.dataset.name for each in inputs) == ["north", "south"]
    assert {each.dataset.digest for each in inputs} == {"a" * 36, "b" * 36}


@pytest.fixture(scope="module")
def registered(tracking, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "catalogue.txt").write_text("apple\nbread\nchalk\n")
    np.save(folder / "popularity.npy", np.array([1, 5, 3], np.float32))
    np.save(folder / "weights.npy", np.array([[0, 0.1, 0.9], [0.2, 0, 0], [0, 0.4, 0]], np.float32))
    run_id = tracking.start_or_continue("model", "model", {}, {})
    version = tracking.register(run_id, folder, "demo", {"run": "model"})
    assert tracking.register(run_id, folder, "demo", {"run": "model"}) == version
    Champions(tracking, "demo").promote(version, "the first")
    about = tracking.client.get_registered_model("demo").description
    assert "@champion" in about
    assert "Figures of their runs are of the lists of participants' own models, not of these." in about
    assert "@champion" not in (tracking.client.get_model_version("demo", version).description or "")
    return tracking


def test_the_champion_recommends_without_what_was_seen(registered):
    queries = [
        {"history": ["apple"], "k": 2},
        {"history": [], "k": 3},
        {"history": ["unheard-of"], "k": 1},
        {"history": ["apple", "bread", "chalk"], "k": 5},
    ]
    first, second, third, fourth = registered.champion("demo")(queries)
    assert first.items == ["chalk", "bread"]
    assert first.scores == pytest.approx([0.9, 0.1])
    assert second.items == ["bread", "chalk", "apple"]
    assert third.items == ["bread"]
    assert fourth.items == []


def test_a_champion_whose_files_have_moved_is_told_with_where_they_were(registered):
    artifacts = registered.folder / "artifacts"
    artifacts.rename(registered.folder / "moved")
    with pytest.raises(NoTracking, match=f"demo@champion: .*in {artifacts.as_uri()}"):
        registered.champion("demo")
    (registered.folder / "moved").rename(artifacts)
    assert registered.champion("demo")([{"history": ["apple"], "k": 1}])


def test_a_copied_state_folder_has_its_files_in_itself(registered, tmp_path):
    elsewhere = "file:///srv/mlflow/artifacts"
    theirs = registered.client.create_experiment("an operator's", elsewhere)
    home = registered.folder.parent
    shutil.copytree(home, tmp_path / "100% copied" / home.name)
    copy = Tracking(registered.config, tmp_path / "100% copied" / home.name)
    places.settle(copy)
    assert copy.client.get_experiment(theirs).artifact_location == elsewhere
    (run,) = copy.client.search_runs([copy.experiment_id], "tags.`chorus.run` = 'model'")
    assert copy.client.get_run(run.info.run_id).info.artifact_uri.startswith(copy.folder.as_uri())
    registered.folder.rename(registered.folder.with_name("away"))
    assert copy.champion("demo")([{"history": ["apple"], "k": 1}])[0].items == ["chalk"]
    registered.folder.with_name("away").rename(registered.folder)
    copy.client.log_text(run.info.run_id, "late", "late.txt")
    assert [*copy.folder.rglob("late.txt")]
    assert registered.champion("demo")([{"history": ["apple"], "k": 1}])


def test_an_experiment_that_was_deleted_is_named(tracking):
    config, home = TrackingConfig(experiment="gone"), tracking.folder.parent
    once = Tracking(config, home)
    once.client.delete_experiment(once.experiment_id)
    with pytest.raises(NoTracking, match=r"tracking\.experiment: found 'gone', which was deleted at MLflow"):
        Tracking(config, home).start_or_continue("one", "one", {}, {})


def test_it_loads_without_the_repository_and_holds_no_pickle(registered, tmp_path):
    code = (
        "import sys, mlflow\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model('models:/demo@champion')\n"
        "print(model.predict([{'history': ['apple'], 'k': 1}])[0].items)\n"
        "assert not {'flows', 'tasks', 'federation', 'recommenders'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, registered.uri], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.strip() == "['chalk']", done.stderr
    assert not [path for path in registered.folder.rglob("*") if path.suffix in {".pkl", ".pickle"}]
    (requirements,) = {path.read_text() for path in registered.folder.rglob("requirements.txt")}
    assert "mlflow==" in requirements
    assert "chorus" not in requirements


@pytest.mark.slow
def test_it_loads_in_a_clean_environment(registered, tmp_path):
    requirements = next(iter(registered.folder.rglob("requirements.txt")))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = ["--python", python, "install", "-q", "--no-compile", "-r", requirements]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    code = (
        "import sys, mlflow; mlflow.set_tracking_uri(sys.argv[1]);"
        "model = mlflow.pyfunc.load_model('models:/demo@champion');"
        "print(model.predict([{'history': ['apple'], 'k': 1}])[0].items)"
    )
    done = subprocess.run([python, "-c", code, registered.uri], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "['chalk']", done.stderr


def test_a_history_with_an_item_that_the_champion_does_not_know_is_refused(registered, tmp_path):
    settings = Settings(
        name="demo",
        decides="",
        rounds=RoundPolicy(),
        tracking=registered.config,
        catalogue=tmp_path,
        seed=0,
        agreed={},
    )
    assert ask_common(registered.folder.parent, settings, ["apple"], 1)["items"] == ["chalk"]
    with pytest.raises(BadInput, match="--history: found ' bread', expected ids of items that the champion"):
        ask_common(registered.folder.parent, settings, ["apple", " bread"], 1)
