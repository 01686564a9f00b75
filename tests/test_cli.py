"""How the command line ends: by which exit code, and with which words."""

import re
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from event_rows import read_batches

from feature_store.world import World, generate
from feature_store.world_files import sources
from federation.errors import ChorusError, Lost, TooFew
from flows import cli, operate, serving, setup, tables
from tasks import server


@pytest.mark.parametrize("command", [["check"], ["runs"], ["rollback"], ["schedule", "history"]])
def test_a_command_takes_the_consortium_that_init_wrote_here(ends, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    assert "chorus: consortium.yaml: cannot be read" in ends(*command, code=2)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "demo.yaml").write_text("- a list")
    assert "chorus: examples/demo.yaml: found list" in ends(*command, code=2)
    (tmp_path / "consortium.yaml").write_text("- a list")
    assert "chorus: consortium.yaml: found list" in ends(*command, code=2)


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_an_interrupted_command_says_so(ends, monkeypatch):
    monkeypatch.setattr(setup, "check", interrupt)
    assert ends("check", code=130) == "interrupted\n"
    ends("--help", code=0)


def test_an_interrupted_flow_sends_what_the_server_has_not_heard_while_it_runs(monkeypatch):
    sent = []
    monkeypatch.setattr("flows.train.train", interrupt)
    monkeypatch.setattr(operate.flow_runs, "send_rest", lambda: sent.append("rest"))
    with pytest.raises(KeyboardInterrupt):
        operate._flow(pooled=False)()
    assert sent == ["rest"]


@pytest.mark.parametrize(
    ("ending", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (Lost({"a": "silent"}), 5, "chorus: a: silent"),
        (TooFew("needs 3"), 4, "chorus: needs 3"),
    ],
)
def test_a_training_that_can_be_resumed_tells_how(ends, monkeypatch, tiny, ending, code, told):
    def end(**_):
        raise ending

    monkeypatch.setattr(operate, "at_work", lambda _: nullcontext())
    monkeypatch.setattr(operate.server, "prefect_server", lambda *_: nullcontext())
    monkeypatch.setattr(operate, "mark_crashed", lambda *_, **__: None)
    monkeypatch.setattr(operate, "_flow", lambda _: end)
    path = tiny("tiny")
    *_, hint, last = ends("run", path, "--data", "my data", code=code).splitlines()
    assert hint.startswith("what is done is kept; to go on: ")
    assert hint.endswith(f" {path} --data 'my data'")
    assert last == told


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("nowhere/figures.json", "nowhere/figures.json: found no folder nowhere, expected one"),
        (".", ".: found a folder, expected where a file can be written"),
    ],
)
def test_figures_that_cannot_be_written_are_refused_before_the_work(ends, monkeypatch, path, told):
    monkeypatch.setattr(setup, "check", lambda *_: pytest.fail("it began"))
    assert f"chorus: {told}" in ends("check", "--json", path, code=2)


def test_a_plot_of_another_kind_is_refused_before_the_work(ends, tmp_path):
    told = ends("replay", tmp_path / "three.yaml", "--plot", "replay.txt", code=2)
    assert told == "chorus: replay.txt: found suffix '.txt', expected .png\n"
    assert "found no folder" in ends("replay", "--plot", "nowhere/replay.png", code=2)


def test_a_full_disk_under_the_figures_names_no_run_to_resume(ends, monkeypatch):
    monkeypatch.setattr(setup, "check", lambda *told: tables.write_json(told[-1], {}))
    told = ends("check", "--json", "/dev/full", code=1)
    assert told == "chorus: No space left on device; what a run has done is kept for a resume\n"


def test_a_path_that_cannot_be_used_is_told_without_a_traceback(ends, tiny, tmp_path):
    assert f"found no folder {tmp_path}/nowhere, exp" in ends("init", tmp_path / "nowhere/c.yaml", code=2)
    assert f"chorus: {tmp_path}: found a folder" in ends("init", tmp_path, code=2)
    path = tiny("tiny")
    (tmp_path / "state").write_text("in the way")
    assert "state/tiny: Not a directory" in ends("run", path, code=2)
    (tmp_path / "state").unlink()
    (tmp_path / "state").symlink_to("state")
    assert f"chorus: {tmp_path}/state" in ends("run", path, code=2)
    ends("init", tmp_path / "consortium.yaml", code=0)
    told = ends("run", tmp_path / "consortium.yaml", "--data", tmp_path / "state", code=2)
    assert f"found no folder {tmp_path}/state, expected" in told


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_missing_folder_of_data_is_told_before_a_server_starts(ends, monkeypatch, tmp_path, command):
    monkeypatch.setattr(server, "started", lambda *_: pytest.fail("it began"))
    ends("init", tmp_path / "consortium.yaml", code=0)
    told = ends(command, tmp_path / "consortium.yaml", "--data", tmp_path / "nowhere", code=2)
    expected = "expected where the participants' paths start"
    assert told == f"chorus: data: found no folder {tmp_path}/nowhere, {expected}\n"


def test_a_resume_needs_no_folder_of_data(ends, monkeypatch, tmp_path):
    """The data that the run began with lie in the participants' stores."""
    monkeypatch.setattr(operate, "find_run", lambda *_: SimpleNamespace(facts={"status": "crashed"}))
    monkeypatch.setattr(operate, "at_work", interrupt)
    ends("init", tmp_path / "consortium.yaml", code=0)
    ends("resume", "r", tmp_path / "consortium.yaml", "--data", tmp_path / "nowhere", code=130)


def test_a_version_of_more_digits_than_a_number_may_have_is_not_known(ends, monkeypatch, tiny):
    monkeypatch.setattr("flows.champion.Champions", lambda *_: SimpleNamespace(versions=lambda: [1]))
    told = ends("promote", "1" * 5000, tiny("tiny"), code=2)
    assert "found no such version, nor one of that run; expected one of: 1" in told


def test_which_of_the_served_processes_ended_is_told(tmp_path):
    ends, runs = SimpleNamespace(poll=lambda: -9), SimpleNamespace(poll=lambda: None)
    log = tmp_path / "prefect" / "worker.log"
    with pytest.raises(ChorusError, match=f"Prefect's worker ended with exit code -9; its log is {log}"):
        serving._wait(threading.Event(), {"server": runs, "worker": ends}, tmp_path)


@pytest.mark.parametrize("port", [0, 65_536])
def test_a_port_that_is_none_is_refused(ends, tiny, port):
    assert "Invalid value for '--port'" in ends("serve", tiny("tiny"), "--port", port, code=2)


def test_a_wrong_cron_line_is_found_by_a_check(ends, tiny):
    path = tiny("tiny", "schedule: {cron: 61 * * * *}")
    assert "schedule: found '61 * * * *', expected a cron line such as" in ends("check", path, code=2)


def test_a_file_that_cannot_be_read_leaves_the_others_checked(ends, tmp_path):
    columns, path = "{user: u, item: i, time: t}", tmp_path / "three.yaml"
    for name in "ac":
        (tmp_path / f"{name}.csv").write_text("u,i,t\n1,x,2024-01-01\n")
    (tmp_path / "b.csv").symlink_to("/proc/self/mem")
    each = (f"  - {{name: {name}, events: {{path: {name}.csv, columns: {columns}}}}}\n" for name in "abc")
    path.write_text("name: three\nparticipants:\n" + "".join(each))
    told = ends("check", path, code=2)
    assert f"chorus: b: {tmp_path}/b.csv: expected files that can be read, found: Input/output error" in told
    assert [line[2] for line in told.splitlines() if line[:4] in ("  a ", "  b ", "  c ")] == ["a", "c"]


@pytest.mark.parametrize(
    "asked",
    [
        (),
        ("--participant", "a"),
        ("--participant", "a", "--history", "x"),
        ("--participant", "a", "--user", "u", "--history", "x"),
    ],
)
def test_a_list_is_for_a_user_or_for_a_history(ends, tiny, asked):
    told = ends("recommend", tiny("tiny"), *asked, code=2)
    assert told == "chorus: expected --participant NAME --user ID, or --history ITEM,ITEM,... alone\n"


def test_the_examples_of_lists_are_for_users_and_items_of_the_demo(tmp_path):
    names = ["east", "harbour", "hill", "north", "south", "west"]
    generate(World(users=300, events=9000), tmp_path, names)
    events = []
    for name, source in sources(names).items():
        for batch in read_batches(source.under(tmp_path)):
            events += [(name, row["user"], row["item"]) for row in batch.to_pylist()]
    examples = cli.recommend.__doc__
    ((participant, user),) = re.findall(r"--participant (\S+) --user (\S+)`", examples)
    assert any((name, one) == (participant, user) for name, one, _ in events)
    (history,) = re.findall(r"--history (\S+)`", examples)
    assert set(history.split(",")) <= {item for _, _, item in events}


def test_items_that_the_catalogue_lacks_are_told(ends, tmp_path):
    columns, path = "{user: u, item: i, time: t}", tmp_path / "three.yaml"
    each = (f"  - {{name: {name}, events: {{path: {name}.csv, columns: {columns}}}}}\n" for name in "abc")
    path.write_text(
        f"name: three\nstate: {tmp_path}/state\ncatalogue: ids.txt\nparticipants:\n" + "".join(each)
    )
    (catalogue := tmp_path / "ids.txt").write_text("m\nz\n")
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text("u,i,t\n1,m,2024-01-01\n2,z,2024-01-02\n")
    assert "leaves out" not in ends("check", path, code=0)
    (tmp_path / "a.csv").write_text("u,i,t\n1,m,2024-01-01\n2,b,2024-01-02\n2,c,2024-01-02\n")
    told = ends("check", path, code=0)
    assert f"Warning: {catalogue} leaves out 2 of 3 events of a, whose items it does not know" in told
    path.write_text(path.read_text().replace("catalogue: ids.txt\n", ""))
    assert "leaves out" not in ends("check", path, code=0)


def test_items_of_which_the_catalogue_knows_none_are_told(ends, tmp_path):
    columns, path = "{user: u, item: i, time: t}", tmp_path / "three.yaml"
    for name, item in (("a", "x"), ("b", "shop-x"), ("c", "")):
        (tmp_path / f"{name}.csv").write_text(f"u,i,t\n1,{item},2024-01-01\n2,{item},2024-01-02\n")
    (tmp_path / "items.txt").write_text("x\ny\n")
    each = (f"  - {{name: {name}, events: {{path: {name}.csv, columns: {columns}}}}}\n" for name in "abc")
    path.write_text("name: three\ncatalogue: items.txt\nparticipants:\n" + "".join(each))
    told = ends("check", path, code=2)
    assert (
        f"chorus: b: events.columns.item: {tmp_path}/items.txt knows none of the ids, expected its own, or "
        "aliases; found 'shop-x'\n" in told
    )
    assert [line[2] for line in told.splitlines() if line[:4] in ("  a ", "  b ", "  c ")] == ["a", "c"]
    assert "Warning: c keeps no row; see which rule dropped them" in told
    assert "in common" not in told


def test_items_that_nobody_else_has_are_told(ends, tmp_path):
    columns, path = "{user: u, item: i, time: t}", tmp_path / "three.yaml"
    for name, item in (("a", "14"), ("b", "14"), ("c", "14.0")):
        (tmp_path / f"{name}.csv").write_text(f"u,i,t\n1,{item},2024-01-01\n2,{item},2024-01-02\n")
    each = (f"  - {{name: {name}, events: {{path: {name}.csv, columns: {columns}}}}}\n" for name in "abc")
    path.write_text("name: three\nparticipants:\n" + "".join(each))
    told = ends("check", path, code=0)
    (warning,) = [line for line in told.splitlines() if line.startswith("Warning: ")]
    assert warning.startswith("Warning: c has no item in common with anybody")


def test_items_that_others_write_a_little_differently_are_counted(ends, tmp_path):
    columns, path = "{user: u, item: i, time: t}", tmp_path / "three.yaml"
    for name, items in (("a", ("tt1", "0133", "3")), ("b", ("TT1", "133.0", "3")), ("c", ("3", "4", "5"))):
        rows = "".join(f"{user},{item},2024-01-0{user}\n" for item in items for user in (1, 2))
        (tmp_path / f"{name}.csv").write_text("u,i,t\n" + rows)
    each = (f"  - {{name: {name}, events: {{path: {name}.csv, columns: {columns}}}}}\n" for name in "abc")
    path.write_text("name: three\nparticipants:\n" + "".join(each))
    told = ends("check", path, code=0)
    warnings = [line for line in told.splitlines() if line.startswith("Warning: ")]
    assert [each[:46] for each in warnings] == [
        f"Warning: 2 items of {name} nobody else has but with" for name in "ab"
    ]


def test_a_check_that_could_read_nobody_shows_no_table(ends, tmp_path):
    ends("init", tmp_path / "consortium.yaml", code=0)
    told = ends("check", tmp_path / "consortium.yaml", code=2)
    assert "no such file" in told
    assert "rows read" not in told


def test_a_check_folds_no_name_of_fifteen_letters(capsys):
    cleaning = {"rows_read": 600_000, "kept": 600_000}
    facts = {"cleaning": cleaning, "from": "2023-11-14", "to": "2024-11-13"}
    setup._show("consortium.yaml", {"organisation-21": facts})
    assert "organisation-21" in capsys.readouterr().out
