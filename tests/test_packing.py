"""A packed recommender answers as a slow oracle does, in a process that has never heard of Chorus."""

import json
import subprocess
import sys
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from federation.files import save, write_json
from mlruns_config.champions import Champions
from mlruns_config.config import TrackingConfig
from mlruns_config.tracking import Tracking
from recommenders import attention, sequence
from recommenders.sequence import SequenceConfig
from tasks.model import ModelConfig
from tasks.publish import pack
from tasks.runs import RunFolder

ITEMS = 23
ASK = """
import json, sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
answers = model.predict(json.loads(sys.argv[3]))
print(json.dumps([answer.model_dump() for answer in answers]))
assert not {"flows", "tasks", "federation", "recommenders", "mlruns_config"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(5)
    weights = rng.normal(size=(ITEMS, ITEMS)).astype(np.float32)
    weights[0] = 0  # nobody had it
    return rng.integers(0, 50, ITEMS).astype(np.float32), weights


@pytest.fixture(scope="module")
def tracking(tmp_path_factory, arrays):
    """A store with the models `both`, with weights, and `popular`, without."""
    tracking = Tracking(TrackingConfig(), tmp_path_factory.mktemp("packing"))
    for name, weights in (("both", arrays[1]), ("popular", None)):
        folder = tmp_path_factory.mktemp(name)
        _popular(folder, arrays)
        if weights is not None:
            np.save(folder / "weights.npy", weights)
        run_id = tracking.start_or_continue(name, name, {"items": ITEMS}, {})
        assert tracking.register(run_id, folder, name, {"run": name}) == 1
        Champions(tracking, name).promote(1, "the first")
        assert tracking.client.get_run(run_id).info.status == "RUNNING"
        tracking.finish(run_id, "FINISHED")
    return tracking


def oracle(query, popularity, weights):
    """Items and scores, one multiplication at a time."""
    seen = {int(item.split()[1]) for item in query["history"] if item.startswith("item ")}
    scores = [float(each) for each in popularity]
    if weights is not None and weights[sorted(seen)].any():
        scores = [sum(float(weights[row, column]) for row in seen) for column in range(ITEMS)]
    ranked = sorted(set(range(ITEMS)) - seen, key=lambda place: (-scores[place], place))[: query["k"]]
    return [f"item {place}" for place in ranked], [scores[place] for place in ranked]


@pytest.mark.parametrize("name", ["both", "popular"])
def test_a_process_apart_answers_as_the_oracle(tracking, arrays, tmp_path, name):
    rng = np.random.default_rng(7)
    histories = [[f"item {place}" for place in rng.permutation(ITEMS)[:size]] for size in (1, 4, ITEMS)]
    histories += [[], ["item 0"], ["never sold"], ["never sold", "item 3", "item 3"]]
    queries = [{"history": each, "k": k} for each in histories for k in (0, 3, 100)]
    asked = [sys.executable, "-I", "-c", ASK, tracking.uri, f"models:/{name}@champion", json.dumps(queries)]
    done = subprocess.run(asked, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for query, answer in zip(queries, json.loads(done.stdout), strict=True):
        items, scores = oracle(query, arrays[0], arrays[1] if name == "both" else None)
        assert answer["items"] == items
        assert answer["scores"] == pytest.approx(scores, abs=1e-5)


def test_what_is_stored_is_code_text_and_plain_arrays(tracking, arrays, tmp_path):
    _popular(tmp_path, arrays)
    np.save(tmp_path / "weights.npy", arrays[1])
    run_id = tracking.start_or_continue("stored", "stored", {}, {})
    client = tracking.client
    with mock.patch.object(client, "create_model_version", wraps=client.create_model_version) as asked:
        version = tracking.register(run_id, tmp_path, "stored", {})
    source = client.get_model_version("stored", str(version)).source
    assert source == f"models:/{asked.call_args.kwargs['model_id']}"  # else an MLflow server refuses it
    (folder,) = (tracking.folder / "artifacts" / "models").glob(f"{source.rpartition('/')[2]}/artifacts")
    stored = {path.name for path in folder.rglob("*") if path.is_file()}
    assert stored >= {"model_code.py", "catalogue.txt", "popularity.npy", "weights.npy", "MLmodel"}
    assert {name.rpartition(".")[2] for name in stored} <= {"py", "txt", "npy", "json", "MLmodel", "yaml"}


@pytest.mark.parametrize("name", ["ids.parquet", "ids.txt"])
def test_a_catalogue_of_any_kind_is_packed_with_each_id_at_its_place(tracking, tmp_path, name):
    ids = ["a", "b\x0bc", "d\x85e\u2028f", "g"]
    if name == "ids.txt":
        (tmp_path / name).write_bytes("\ufeff".encode() + "\r\n".join(ids).encode())
    else:
        pq.write_table(pa.table({"id": ids}), tmp_path / name)
    folder = RunFolder(tmp_path / "runs" / "r")
    folder.note(cuts=[])
    for number in (0, 1):
        write_json(folder.path / f"round-{number:04}" / "record.json", {})
    save(folder.path / "round-0001" / "popularity" / "2.npy", np.arange(3, 0, -1))
    told = {"items": 3, "model": ModelConfig(kind="popularity")}  # the last id came later
    run = SimpleNamespace(name="r", folder=folder, catalogue=tmp_path / name, **told)
    run_id = tracking.start_or_continue(name, name, {}, {})
    tracking.register(run_id, pack({"participants": {}}, run), name, {})
    Champions(tracking, name).promote(1, "the first")
    assert tracking.champion(name)([{"history": ["a"]}])[0].items == ids[1:3]


def test_a_transformer_reads_histories_in_order_in_a_process_apart(tracking, tmp_path):
    """By what the best federated round learned, on top of the window that was chosen; 2 events are read."""
    config = SequenceConfig(width=8, length=2, blocks=1)
    model = ModelConfig(kind="sequence", sequence=config, windows=(30, 90))
    folder, ids = RunFolder(tmp_path / "runs" / "r"), [f"item {place}" for place in range(ITEMS)]
    (tmp_path / "catalogue.txt").write_text("\n".join(ids) + "\n")
    folder.note(cuts=[], items=ITEMS)
    for number in (0, 1):
        write_json(folder.path / f"round-{number:04}" / "record.json", {})
    for step, ndcg in enumerate((0.1, 0.3, 0.2)):  # the second of three is best
        told = {"overall": {"ndcg_at_10": ndcg}, "trust": 0.5, "over": True}
        write_json(folder.path / "round-0000" / f"learned-{step:04}.json", told)
    counts = np.random.default_rng(3).integers(1, 50, (2, ITEMS))
    learned = sequence.initial(ITEMS, config, 0)
    for step in range(2):
        change = sequence.initial(ITEMS, config, 9 + step)
        term = np.concatenate([change.dense, change.table.ravel()])
        save(folder.path / "round-0001" / "sequence" / f"{step}.npy", term)
        learned = learned.plus(change)
    save(folder.path / "round-0001" / "popularity" / "2.npy", counts.ravel())
    save(folder.path / "round-0001" / "weights" / "2.npy", np.ones(ITEMS + 1))
    figures = {"participants": {"a": {"chosen": {"consortium_strength": 1}}, "b": {"chosen": None}}}
    told = {"items": ITEMS, "model": model, "seed": 0, "catalogue": tmp_path / "catalogue.txt"}
    told |= {"embeddings": np.zeros((ITEMS, 0), np.float32)}
    run_id = tracking.start_or_continue("reads", "reads", {}, {})
    tracking.register(run_id, pack(figures, SimpleNamespace(name="r", folder=folder, **told)), "reads", {})
    histories = [[ids[each] for each in some] for some in ((4, 5, 6), (4, 6, 5), (7, 5, 6), (), (8,))]
    queries = json.dumps([{"history": each, "k": 50} for each in histories])
    asked = [sys.executable, "-I", "-c", ASK, tracking.uri, "models:/reads/1", queries]
    done = subprocess.run(asked, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for history, answer in zip(histories, json.loads(done.stdout), strict=True):
        read = np.array([[ids.index(each) for each in history[-2:]] or [-1]])
        expected = np.log1p(counts[1]) + 0.5 * attention.scores(learned, config.size, read)[0]
        left = sorted(
            set(range(ITEMS)) - {ids.index(each) for each in history}, key=lambda each: -expected[each]
        )
        assert answer["items"] == [ids[each] for each in left]
        assert answer["scores"] == pytest.approx(expected[left], rel=1e-5)


def test_the_alias_stays_where_it_is_until_a_promotion(tracking, tmp_path, arrays):
    _popular(tmp_path, arrays)
    run_id = tracking.start_or_continue("second", "second", {}, {})
    assert tracking.register(run_id, tmp_path, "popular", {}) == 2
    assert tracking.client.get_model_version_by_alias("popular", "champion").version == 1
    assert tracking.register(run_id, tmp_path, "popular", {}) == 2
    Champions(tracking, "popular").promote(2, "asked")
    assert tracking.client.get_model_version_by_alias("popular", "champion").version == 2


def test_a_champion_whose_run_is_gone_from_mlflow_is_known_by_that_runs_name(tracking, tmp_path, arrays):
    _popular(tmp_path, arrays)
    run_id = tracking.start_or_continue("purged", "purged", {}, {})
    tracking.register(run_id, tmp_path, "purged", {})
    tracking.client.delete_run(run_id)
    tracking.client._tracking_client.store._hard_delete_run(run_id)  # as `mlflow gc` does
    found = Champions(tracking, "purged")
    found.promote(1, "the first")
    assert (found.run(), found.standing()) == ("purged", ["purged"])


@pytest.mark.parametrize("body", [[{"history": "item 1"}], [{"k": "many"}], ["item 1"]])
def test_a_malformed_query_is_refused(tracking, body):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="Failed to validate"):
        tracking.champion("both")(body)


def _popular(folder, arrays):
    (folder / "catalogue.txt").write_text("".join(f"item {place}\n" for place in range(ITEMS)))
    (folder / "model.json").write_text(json.dumps({"items": ITEMS}))
    np.save(folder / "popularity.npy", arrays[0])
