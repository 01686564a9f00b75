"""New films come out all the time, and nobody has one in its first days: only content can list it then."""

import csv
import json
import shutil
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from joined import give_each_other, write
from small import Small

from feature_store.catalogue import read_catalogue
from flows.consortium import read_consortium
from tasks import own_model, server
from tasks.room import Room

FIRST = datetime(2020, 1, 1)
DAYS, KINDS, EVERY = 300, 4, 10
UNSEEN, OLD = 8, 40
"""A film is had when it is out for so many days, and not for longer than these."""

CONSORTIUM = """
name: small
state: {state}
catalogue: items.parquet
participants:
  - {{name: east, events: {{path: east.csv, columns: {{user: user, item: item, time: time}}}}}}
  - {{name: north, events: {{path: north.csv, columns: {{user: user, item: item, time: time}}}}}}
  - {{name: south, events: {{path: south.csv, columns: {{user: user, item: item, time: time}}}}}}
split: {{kind: temporal, cuts: [2020-08-01, 2020-09-15]}}
content: items.parquet
model:
  content: [text, sound]
  two_stage:
    {{candidates: 30, learn_from: 1, boosting: {{trees: 40, min_data_in_leaf: 20}}}}
"""


def films():
    """The day on which each film comes out, by its kind and name."""
    return {
        f"film-{kind}-{day}": (kind, day)
        for kind in range(KINDS)
        for day in range(2 * kind - OLD, DAYS, EVERY)
    }


def write_content(path, seed=5):
    """Text tells a film's kind; sound tells nothing, and not of all."""
    r, found = np.random.default_rng(seed), films()
    text = [np.eye(KINDS, 6)[kind] + r.normal(scale=0.05, size=6) for kind, _ in found.values()]
    sound = [None if place % 3 == 0 else r.normal(size=4) for place in range(len(found))]
    since = [FIRST + timedelta(days=day) for _, day in found.values()]
    columns = {
        "item": list(found),
        "since": pa.array(since, pa.timestamp("us")),
        "text": text,
        "sound": sound,
    }
    pq.write_table(pa.table(columns), path)


def write_shop(path, users, seed):
    """Everybody likes films of one kind, whatever is out for a while; the user's id ends with the kind."""
    r, known = np.random.default_rng(seed), films()
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "time"])
        for event in range(users * 14):
            user, day = event % users, r.uniform(0, DAYS)
            out = [
                film for film, (kind, since) in known.items()
                if kind == user % KINDS and since + UNSEEN <= day <= since + OLD
            ]  # fmt: skip
            rows.writerow([f"{path.stem}-{user}-{user % KINDS}", r.choice(out), FIRST + timedelta(days=day)])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The consortium after `chorus compare`."""
    small = Small(tmp_path_factory.mktemp("content"))
    write_content(small.folder / "items.parquet")
    for seed, name in enumerate(("east", "north", "south")):
        write_shop(small.folder / f"{name}.csv", 120, seed)
    (small.folder / "small.yaml").write_text(CONSORTIUM.format(state=small.folder / "state"))
    small.done = small.chorus("compare", "small.yaml", "--json", "figures.json")
    return small


def had_by_nobody(compared):
    """The films that are out, and of which there is no event."""
    had = set()
    for name in ("east", "north", "south"):
        with (compared.folder / f"{name}.csv").open() as file:
            had |= {row["item"] for row in csv.DictReader(file)}
    return {film for film, (_, day) in films().items() if day >= 0} - had


def test_what_nobody_had_yet_is_listed_to_who_likes_its_kind(compared):
    new, kinds = had_by_nobody(compared), films()
    assert new
    for user in range(KINDS):
        kind = user % KINDS
        told = ("--participant", "east", "--user", f"east-{user}-{kind}", "--top", 8, "--json", "list.json")
        compared.chorus("recommend", "small.yaml", *told)
        listed = json.loads((compared.folder / "list.json").read_text())["items"]
        assert {film for film in new if kinds[film][0] == kind} <= {*listed}
        first = next(film for film in listed if film in new)
        assert kinds[first][0] == kind


def test_content_is_what_the_ranker_looks_at_and_text_more_than_sound(compared):
    looks_at = json.loads((compared.run / "round-0001" / "record.json").read_text())["looks_at"]
    for which in ("likeness", "likeness_max"):
        assert looks_at[f"text_{which}"] > 2 * looks_at[f"sound_{which}"]


def test_with_content_too_the_consortium_is_what_pooled_rows_give(compared):
    figures = json.loads((compared.folder / "figures.json").read_text())
    for told in (figures["overall"], *figures["participants"].values()):
        pooled = {key: value for key, value in told["pooled"].items() if key in told["consortium"]}
        assert len(pooled) >= 8
        assert pooled == {key: told["consortium"][key] for key in pooled}
    overall = figures["overall"]
    assert overall["consortium"]["ndcg_at_10"] > overall["popularity"]["ndcg_at_10"]


def test_check_tells_how_many_items_have_an_embedding_and_what_is_wrong(compared):
    count = len(films())
    told = compared.chorus("check", "small.yaml").stdout
    assert f"{count} of {count} items have an embedding 'text'" in told
    assert f"{count - (count + 2) // 3} of {count} items have an embedding 'sound'" in told
    other = compared.folder / "other.yaml"
    text = (compared.folder / "small.yaml").read_text()
    text = text.replace(str(compared.folder / "state"), str(compared.folder / "other"))
    other.write_text(text.replace("content: [text, sound]", "content: [text, image]"))
    for command in ("check", "run"):
        done = compared.chorus(command, other, "--data", compared.folder, code=2)
        assert "expected one column 'image', found item, since, text, sound" in done.stdout + done.stderr


def test_a_run_goes_on_only_with_the_content_of_its_beginning(compared):
    before = (compared.folder / "items.parquet").read_bytes()
    facts = json.loads((compared.run / "run.json").read_text())
    assert len(facts["content"]) == 64
    shutil.copy(compared.run / "run.json", compared.folder / "run.json")
    try:
        (compared.run / "run.json").write_text(json.dumps({**facts, "status": "failed"}))
        table = pq.read_table(compared.folder / "items.parquet")
        pq.write_table(table.slice(0, len(table) - 1), compared.folder / "items.parquet")
        done = compared.chorus("resume", compared.run.name, "small.yaml", code=2)
        assert "found other content than when run" in done.stdout + done.stderr
    finally:
        (compared.folder / "items.parquet").write_bytes(before)
        shutil.copy(compared.folder / "run.json", compared.run / "run.json")


def test_a_model_goes_on_knowing_what_it_knew_when_more_is_told(compared):
    (membership, *_) = read_consortium(compared.folder / "small.yaml").memberships
    home, run = compared.home / "participants" / "east", compared.run.name
    cuts = tuple(json.loads((compared.run / "run.json").read_text())["cuts"])

    def of(modalities):
        """The room, and its model's arrays as of the test, where the file is said to have these columns."""
        model = membership.model.model_copy(update={"content": modalities})
        room = Room(home, membership.model_copy(update={"model": model}))
        kept, prepared = own_model.kept(room, run), room.prepared(room.version, cuts)
        return kept and own_model.fresh(room, kept, prepared, 3, prepared.listable(3))

    expected, swapped = of(("text", "sound")), of(("sound", "text"))
    assert expected["content"].shape == (len(expected["own_items"]), 10)
    for name, array in expected.items():
        np.testing.assert_array_equal(swapped[name], array)
    assert of(("text",)) is None
    assert own_model.kept(Room(home, membership.model_copy(update={"content": None})), run) is None


def test_what_may_be_listed_in_a_test_was_had_or_out_before_it(compared):
    (membership, *_) = read_consortium(compared.folder / "small.yaml").memberships
    room = Room(compared.home / "participants" / "east", membership)
    cuts = json.loads((compared.run / "run.json").read_text())["cuts"]
    prepared = room.prepared(room.version, tuple(cuts))
    catalogue, found = read_catalogue(membership.catalogue).to_pylist(), films()
    for part, cut in enumerate(cuts, 1):
        before = (datetime.fromisoformat(cut) - FIRST) / timedelta(days=1)
        out = {film for film, (_, day) in found.items() if day < before}
        assert {catalogue[item] for item in prepared.listable(part)} == out
        assert {catalogue[item] for item in prepared.sold(part)} < out


def test_who_has_another_copy_of_the_content_does_not_take_part(tmp_path):
    """Over TLS, where each reads its own file."""
    port = server.free_port()
    places = {name: Small(tmp_path / name) for name in ("coordinator", "east", "north")}
    for name, place in places.items():
        place.folder.mkdir()
        write_content(place.folder / "items.parquet", seed=int(name == "north"))
        write(place.folder, port, "content: items.parquet\ndata: .")
        told = (place.folder / "small.yaml").read_text()
        told = told.replace("model: {", "model: {content: [text], ")
        (place.folder / "small.yaml").write_text(told)
    give_each_other(places)
    joined = [places[name].start("join", "small.yaml", "--as", name) for name in ("east", "north")]
    done = places["coordinator"].chorus("run", "small.yaml", code=4)
    for each in joined:
        each.terminate()
        each.wait(20)
    told = done.stdout + done.stderr
    assert "north: content: found" in told
    assert "expected a file of the same bytes as the coordinator's" in told


@pytest.mark.slow
def test_a_film_that_is_added_is_listed_by_the_next_model_which_has_met_the_champion(compared, tmp_path):
    place = Small(tmp_path)
    for name in ("items.parquet", "east.csv", "north.csv", "south.csv"):
        shutil.copy(compared.folder / name, tmp_path / name)
    text = (compared.folder / "small.yaml").read_text()
    (tmp_path / "small.yaml").write_text(text.replace(str(compared.folder), str(tmp_path)))
    shutil.copytree(compared.folder / "state", tmp_path / "state")
    table = pq.read_table(tmp_path / "items.parquet")
    last = table.slice(len(table) - 1)
    added = pa.concat_tables([table, last.set_column(0, "item", pa.array(["new"]))])
    pq.write_table(added, tmp_path / "items.parquet")
    place.chorus("run", "small.yaml", "--json", "again.json")
    judged = json.loads((tmp_path / "again.json").read_text())["judged"]
    assert (judged["compared"], judged["gain"]) == (3, 0)  # the same events, and in their test no new film
    kind, _ = films()[last["item"][0].as_py()]
    asked = ("--participant", "east", "--user", f"east-{kind}-{kind}", "--top", 8, "--json", "list.json")
    for version in (1, 2):
        place.chorus("promote", version, "small.yaml")
        place.chorus("recommend", "small.yaml", *asked)
        listed = json.loads((tmp_path / "list.json").read_text())["items"]
        assert ("new" in listed) == (version == 2)
