"""consortium.yaml: what is wrong is told with file, key, what was found and what was expected."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from federation.errors import BadInput
from flows.consortium import read_consortium
from flows.data import generate_world

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))
GOOD = """
name: three
participants:
  - {name: a, events: {path: a.csv, columns: {user: u, item: i, time: t}, time_unit: s}}
  - {name: b, events: {path: b.csv, columns: {user: u, item: i, time: t}}}
  - {name: c, events: {path: c.csv, columns: {user: u, item: i, time: t}}, discloses: {rows: false}}
split: {kind: temporal, test: 0.9}
rounds: {minimum: 3}
"""


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        (
            "rounds: {minimum: 3}",
            "rounds: {minimun: 3}",
            "rounds.minimun: found this key, expected one of agr",
        ),
        ("test: 0.9", "tset: 0.9", "split.tset: found this key, expected one of cuts, kind, test,"),
        (
            "discloses: {rows",
            "discloses: {row",
            "participants.c.discloses.row: found this key, expected one of",
        ),
        (
            "{user: u, ",
            "{usr: u, ",
            "events.columns.usr: found this key, expected one of item, known_time, time,",
        ),
        ("{user: u, ", "{", "participants.a.events.columns.user: found nothing, expected this key"),
        ("time_unit: s", "time_unit: h", "events.time_unit: Input should be 'iso', 's', 'ms', 'us', 'ns' or"),
        ("minimum: 3", "minimum: 2", "sums of two need agreed_to_two"),
        ("rounds: {minimum: 3}", "seed: -1", "seed: Input should be greater than or equal to 0"),
        ("name: b", "name: a", "consortium.yaml: participants: 'a' is named twice"),
        ("minimum: 3", "minimum: 4", "rounds.minimum is 4, but there are 3 participants"),
        (
            "name: three",
            "name: three\ncontent: i.parquet",
            "content: found i.parquet, which nothing reads; exp",
        ),
        (
            "minimum: 3}",
            "minimum: 3}\nmodel: {content: [text]}",
            "content: found none, expected the file that has the column 'text', which model.content",
        ),
        (
            "minimum: 3}",
            "minimum: 3}\nmodel: {content: [text, text]}",
            "model.content: a column is named twice in ('text', 'text')",
        ),
        (
            "minimum: 3}",
            "minimum: 3}\nmodel: {content: ['a b']}",
            "model.content.0: String should match pattern '^[A-Za-z0-9_]+$'; found 'a b'",
        ),
        ("minimum: 3}", "minimum: 3}\ngate: {fewest: 4}", "gate.fewest is 4, but there are 3 participants"),
        (
            "minimum: 3}",
            "minimum: 3}\ncleaning: {lowest: .nan}",
            "cleaning.lowest: Input should be a finite number",
        ),
        (
            "name: three",
            "name: Three!",
            "name: String should match pattern '^[a-z0-9][a-z0-9-]*$'; found 'Three!'",
        ),
        (
            "{user: u, ",
            "{user: [u], ",
            "participants.a.events.columns.user.str: Input should be a valid string",
        ),
        (
            "name: b",
            "name: no",
            "participants.1.name: found False, expected text; on, off, yes, no need quotes",
        ),
        (
            "{user: u, ",
            "{user: no, ",
            "participants.a.events.columns.user.str: found False, expected text; on,",
        ),
        ("name: b", "name: [b]", "participants.1.name: Input should be a valid string; found ['b']"),
        ("participants:", "participants: 3\nx-more:", "participants: found 3, expected a list"),
        ("name: three", "nmae: three", "nmae: found this key, expected one of "),
        ("name: three", "name: [", "is not YAML"),
        ("rounds: {", "seed: 1\nseed: 2\nrounds: {", "is not YAML: found seed twice, expected it once"),
        (
            "path: a.csv",
            r'path: "a\0.csv"',
            r"is not YAML: found \0 or half a surrogate pair, expected text",
        ),
        ("name: three", "name: " + "[" * 999, "found lists within lists without end"),
        ("test: 0.9", "cuts: [2018-02-30, 2019-02-24]", "expected timestamp (day is out of range for month"),
        ("minimum: 3", "minimum: !!bool three", "is not YAML: found 'three', expected bool"),
        ("name: three", r'name: "\UFFFFFFFF"', "is not YAML: "),
        ("test: 0.9", "cuts: [0001-01-01T00:00:00+05:00, 2019-02-24]", "split.cuts: expected a time within"),
        (
            "name: three",
            "name: three\nschedule: {anchor: 9999-12-31T23:59:59-05:00}",
            "schedule.anchor: expected a time within the years 1 to 9999 of UTC",
        ),
        ("name: three", "name: three\non: x", "1: found the key True, expected text; on, off, yes, no need"),
        ("rounds: {", "rounds: {1: x, ", "rounds.1: found the key 1, expected text"),
        (
            "i, time: t}}}",
            "i}}}",
            "participants.b.events.columns.time: found none, expected the column of times",
        ),
        (
            "split: {kind: temporal, test: 0.9}",
            "split: {kind: given}\nmodel: {kind: popularity}",
            "participants: found no test of anybody, expected the test events of split.kind: given",
        ),
        (
            "name: three",
            "name: three\nmodel: {regularisations: [.inf]}",
            "model.regularisations.0: Input should be a finite number; found inf",
        ),
        (
            "name: three",
            "name: three\nmodel: {two_stage: {boosting: {max_step: .inf}}}",
            "model.two_stage.boosting.max_step: Input should be a finite number; found inf",
        ),
        (
            "name: three",
            "name: three\nworld: {strength: .inf}",
            "world.strength: Input should be a finite number; found inf",
        ),
        (
            "name: three",
            "name: three\nmodel: {windows: [7, 30, 7]}",
            "windows: a window is named twice in (7, 30, 7)",
        ),
        (
            "\nrounds: {minimum: 3}",
            "\nrounds: 3",
            "rounds: found 3, expected some of the keys agreed_to_two, deadline",
        ),
        (
            "kind: temporal, ",
            "",
            "split.kind: found nothing, expected one of temporal, leave-last-out, given",
        ),
        (
            "name: three",
            "name: three\nfrequency: {policy: {days: 1}}",
            "frequency.policy.kind: found nothing, expected one of periodic, plateau, drift, bandit",
        ),
        ("kind: temporal", "kind: last", "split.kind: found 'last', expected one of 'temporal', 'leave-last"),
        ("name: three", "name: three\nstate: 3", "consortium.yaml: state: found 3, expected a path"),
        (
            "name: three",
            "name: three\ntracking: {registered_model: team/three}",
            "tracking.registered_model: String should match pattern '^[^/:'\"]+$'; found 'team/three'",
        ),
        ("name: three", "name: three\ntracking: {experiment: ''}", "tracking.experiment: String should have"),
        (
            "name: three",
            "name: three\nschedule: {cron: 0 3 * * 1, timezone: Europe/Berln}",
            "schedule.timezone: expected a name such as UTC or Europe/Berlin; found",
        ),
        (
            "  - {name: b, ",
            "  - {name: b, tolerance: .inf, ",
            "participants.b.tolerance: Input should be a finite number; found inf",
        ),
        (
            "  - {name: b, ",
            "  - {name: b, reachable: best.parquet, ",
            "reachable of some, expected it of all",
        ),
    ],
)
def test_what_is_wrong_is_told_with_what_was_expected(good, bad, told, tmp_path):
    path = tmp_path / "consortium.yaml"
    path.write_text(GOOD)
    read_consortium(path)
    path.write_text(GOOD.replace(good, bad))
    with pytest.raises(BadInput) as caught:
        read_consortium(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)
    assert not [noise for noise in ("at least 1 item", "Value error", "{'") if noise in str(caught.value)]


@pytest.mark.parametrize(
    "duration",
    [
        "schedule: {adjust_hours: .inf}",
        "schedule: {evaluate_hours: 1.0e-9}",
        "schedule: {start_days: 1.0e+12}",
        "frequency: {policy: {kind: periodic, days: 1.0e+12}}",
        "frequency: {policy: {kind: drift, shortest_days: 1.0e-9}}",
        "gate: {approval_hours: .inf}",
        "alerts: {late_seconds: .inf}",
        "keep_days: 1.0e+9",
        "model: {windows: [213503983]}",
    ],
)
def test_a_duration_that_no_date_can_be_moved_by_is_refused(duration, tmp_path):
    path = tmp_path / "consortium.yaml"
    path.write_text(GOOD + duration)
    with pytest.raises(BadInput, match=r"Input should be (greater|less|a finite number)"):
        read_consortium(path)


@pytest.mark.parametrize("key", ["windows", "shares", "regularisations", "two_stage.own_shares"])
def test_there_is_something_to_choose_from(key, tmp_path):
    path = tmp_path / "consortium.yaml"
    path.write_text(GOOD + f"model: {{{key.replace('.', ': {')}: []}}" + "}" * key.count("."))
    with pytest.raises(BadInput, match=rf"model\.{key}: Tuple should have at least 1 item"):
        read_consortium(path)


def test_who_reads_another_file_than_its_world_writes_is_told_how_it_is_read(tiny):
    path = tiny("tiny")
    path.write_text(path.read_text().replace("north", "zoo"))  # so that it is the third in order
    with pytest.raises(BadInput, match=r"zoo\.events: found zoo\.tsv\.gz, .*; expected \{") as caught:
        generate_world(read_consortium(path))
    expected = str(caught.value).partition("expected ")[2]
    assert yaml.safe_load(expected) == {
        "path": "zoo.parquet",
        "columns": {"user": "user", "item": "item", "value": "rating", "time": "time"},
        "time_unit": "us",
    }


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.yaml: cannot be read .* expected a consortium\.yaml"):
        read_consortium(tmp_path / "nowhere.yaml")


def test_a_file_of_another_encoding_is_named(tmp_path):
    path = tmp_path / "consortium.yaml"
    path.write_text(GOOD.replace("three", "caf\u00e9"), "latin-1")
    with pytest.raises(BadInput, match=f"{path}: is not YAML: unacceptable character #x00e9"):
        read_consortium(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_read_and_cannot_change(path, tmp_path):
    consortium = read_consortium(path, tmp_path)
    assert consortium.data == tmp_path
    assert len(consortium.names) >= consortium.rounds.minimum
    with pytest.raises(ValidationError, match="frozen"):
        consortium.name = "other"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "prefect_api_url: http://chorus:s3cret@prefect.example/api",
            r"prefect_api_url: .* without user and password.*PREFECT_API_A",
        ),
        (
            "tracking: {uri: 'https://chorus:s3cret@mlflow.example'}",
            r"tracking\.uri: .* without user and password.*MLFLOW_TRACKING",
        ),
        ("alerts: {webhook: hooks.example/s3cret}", "alerts: webhook: expected an address such as https://"),
        (
            "tracking: postgresql://chorus:s3cret/s3cret@mlflow.example",
            "tracking: found 'postgresql:",
        ),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(line, told, tmp_path):
    path = tmp_path / "consortium.yaml"
    path.write_text(f"{GOOD}{line}\n")
    with pytest.raises(BadInput, match=told) as caught:
        read_consortium(path)
    assert "s3cret" not in str(caught.value)


def test_a_databases_password_is_not_among_the_parameters_that_prefect_stores(tmp_path):
    path = tmp_path / "consortium.yaml"
    path.write_text(GOOD + "tracking: {uri: 'postgresql://chorus:s3cret@db/mlflow?sslpassword=s3cret'}\n")
    consortium = read_consortium(path)
    assert consortium.model_dump(mode="json")["tracking"]["uri"] == "postgresql://db/mlflow"
    assert consortium.tracking.uri.count("s3cret") == 2


def test_relative_paths_of_what_runs_leave_start_from_where_the_command_was_typed(tmp_path):
    path = tmp_path / "consortium.yaml"
    path.write_text(GOOD + "state: kept\ntracking: {uri: 'sqlite:///runs.db'}\n")
    consortium = read_consortium(path, folder=tmp_path / "typed")
    assert consortium.state == tmp_path / "typed" / "kept"
    assert consortium.tracking.uri == f"sqlite:///{tmp_path}/typed/runs.db"


def test_a_pattern_is_of_the_files_not_of_the_folder_that_they_lie_in(tmp_path):
    path, meant = tmp_path / "consortium.yaml", tmp_path / "data[1]" / "a-1.csv"
    path.write_text(GOOD.replace("a.csv", "a-*.csv").replace("b.csv", "a-1.csv"))
    for folder in (meant.parent, tmp_path / "data1"):
        folder.mkdir()
        (folder / "a-1.csv").touch()
    pattern, whole, _ = read_consortium(path, meant.parent).memberships
    assert pattern.source.files() == whole.source.files() == [meant]


@pytest.mark.parametrize(("many", "fits"), [(63, True), (64, False)])
def test_words_of_changes_have_room_for_everybody(many, fits, tmp_path):
    each = "  - {name: p%d, events: {path: a.csv, columns: {user: u, item: i, time: t}}}"
    lines = ["name: many", "participants:", *(each % place for place in range(many))]
    path = tmp_path / "consortium.yaml"
    path.write_text("\n".join([*lines, "model: {kind: sequence, sequence: {exchange: {bits: 8}}}"]))
    told = "exchange.bits: found 8, which have room for the changes of 63 participants; expected more for 64"
    with nullcontext() if fits else pytest.raises(BadInput, match=told):
        assert len(read_consortium(path).names) == many


def test_where_things_lie_does_not_decide_the_model_and_settings_do(tmp_path):
    path = tmp_path / "consortium.yaml"
    path.write_text(GOOD)
    first = read_consortium(path).decides()
    assert read_consortium(path, tmp_path / "elsewhere").decides() == first
    path.write_text(GOOD + "seed: 1\n")
    assert read_consortium(path).decides() != first
