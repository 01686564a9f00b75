"""Organisations on machines of their own: `chorus join` beside `chorus run`, each in a folder of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import lru_cache
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from joined import REMOTE, give_each_other, write
from small import Small

from feature_store import content
from feature_store.catalogue import read_catalogue, write_catalogue
from federation.errors import BadInput, Refused
from flows import joining, operate, replay, setup
from flows.consortium import read_consortium
from flows.data import generate_world, require_data
from flows.tables import typed
from tasks import opening, server
from tasks.answers import ask_participant
from tasks.following import follow, readable, told_of
from tasks.jobs import offered
from tasks.membership import Membership
from tasks.room import Room
from tasks.runs import find_run


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """A run of a coordinator with south; east and north have joined, and east is killed on the way."""
    port = server.free_port()
    places = {name: Small(tmp_path_factory.mktemp(name)) for name in ("coordinator", *REMOTE)}
    for place in places.values():
        write(place.folder, port)
    give_each_other(places)
    joined = [places[name].start("join", "small.yaml", "--as", name) for name in REMOTE]
    coordinator, east = places["coordinator"], places["east"]
    command = coordinator._command(["run", "small.yaml", "--json", "figures.json"])
    pipes = {
        "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True
    }  # fmt: skip
    said = []
    with subprocess.Popen(command, **coordinator._where({}), **pipes) as run:
        for line in run.stderr:
            said.append(line)
            if "round 0: opened the sum" in line:
                (worker,) = east.processes("--join")
                os.kill(worker, signal.SIGKILL)
    for each in joined:
        each.terminate()
        assert each.wait(20) == -signal.SIGTERM
    assert run.returncode == 0, "".join(said)
    deadline = time.monotonic() + 20
    while left := [pid for name in REMOTE for pid in places[name].processes()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    coordinator.places = places
    return coordinator


def test_it_is_the_model_of_one_machine_bit_for_bit(apart, ran):
    """Though one of them was killed in the middle."""
    there, here = (json.loads((each.folder / "figures.json").read_text()) for each in (apart, ran))
    for arm in ("alone", "consortium", "popularity"):
        assert _figures(there["overall"][arm]) == _figures(here["overall"][arm])
        for name in REMOTE:
            own, local = (each["participants"][name][arm] for each in (there, here))
            assert _figures(own) == _figures(local)
    own = apart.places["north"].home / "participants" / "north" / "models" / apart.run.name / "ranker.json"
    local = ran.home / "participants" / "north" / "models" / ran.run.name / "ranker.json"
    assert own.read_bytes() == local.read_bytes()


def _figures(told):
    """Without the ends of intervals: what a bootstrap draws hangs on where the files lie, too."""
    return {name: value for name, value in told.items() if not name.endswith(("_low", "_high"))}


def test_nothing_of_an_organisation_lies_at_the_coordinator(apart):
    assert [path.name for path in (apart.home / "participants").iterdir()] == ["south"]
    for name in REMOTE:
        (there,) = (apart.places[name].home / "participants").iterdir()
        assert {path.name for path in there.iterdir()} >= {"identity.key", "models", "store", "catalogue.txt"}
        assert (there / "catalogue.txt").read_bytes() == (apart.home / "catalogue.txt").read_bytes()
        for path in there.rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path
        keys = [path for path in apart.folder.rglob("identity.key")]
        assert keys == [apart.home / "coordinator" / "identity.key"]


def test_its_process_ends_with_it_from_the_first_moment(tmp_path):
    """Also while that still imports; and a Ctrl-C is not for it, which would show a traceback."""
    work = f"from pathlib import Path; from tasks.joining import _worked; _worked(Path({str(tmp_path)!r}))"
    place = Small(tmp_path)
    with subprocess.Popen([sys.executable, "-c", work], **place._where({})) as joined:
        deadline = time.monotonic() + 30
        while not (started := place.processes("--join")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert os.getsid(started[0]) == started[0]
        joined.kill()
        joined.wait()
        while place.processes("--join"):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_an_organisation_asks_for_lists_at_home(apart):
    place = apart.places["north"]
    (membership,) = [
        each for each in read_consortium(place.folder / "small.yaml").memberships if each.name == "north"
    ]
    user = Room(place.home / "participants" / "north", membership).events()["user"][0].as_py()
    found = ask_participant(place.home, ["north"], "north", apart.run.name, user, 5)
    assert len(found["items"]) == 5


def test_a_coordinator_on_another_machine_asks_about_no_user():
    assert "recommend" in offered(joined=False)
    assert offered(joined=True).keys() == offered(joined=False).keys() - {"recommend"}


def test_the_catalogue_is_read_where_the_own_is_another(tmp_path):
    told, own = tmp_path / "told.txt", tmp_path / "own.txt"
    write_catalogue(told, ["b", "ü", "c"])
    asked, heard = list[str](), []
    membership = SimpleNamespace(catalogue=own, catalogue_grows=True, content=None)
    room = SimpleNamespace(name="a", membership=membership, prepared=lru_cache(lambda: object()))
    channel = SimpleNamespace(read=lambda name: asked.append(name) or readable(told, None, None)(name))

    def job(_room, _told, _channel):
        heard.append(read_catalogue(own).to_pylist() if own.exists() else None)
        return {}

    follow(room, job, told_of(told, None), channel)
    follow(room, job, told_of(told, 2), channel)
    assert (heard, asked) == ([["b", "ü", "c"]] * 2, ["catalogue"])
    write_catalogue(told, ["b", "ü", "c", "d"])
    follow(room, job, told_of(told, 3), channel)  # a run that began before d came
    follow(room, job, told_of(told, None), channel)
    follow(room, job, {}, channel)  # a job that needs none
    assert (heard[2:], len(asked)) == ([["b", "ü", "c"], [*"bücd"], [*"bücd"]], 2)
    follow(room, job, told_of(tmp_path / "none.txt", None), channel)
    assert heard[-1] is None  # the coordinator begins anew, and so do the places of items
    write_catalogue(own, ["b"])
    for wrong in (b"", b"a\n\nb", b"a\na", b"\xff"):
        channel.read = lambda _, wrong=wrong: np.frombuffer(wrong, np.uint8)
        with pytest.raises(Refused, match="a: what it read as the catalogue is no list of item ids"):
            follow(room, job, told_of(told, None), channel)
    assert read_catalogue(own).to_pylist() == ["b"]
    room.membership.catalogue_grows = False
    with pytest.raises(BadInput, match=r"a: .*own.txt: found other items than the coordinator's"):
        follow(room, job, told_of(told, None), channel)
    with pytest.raises(Refused, match="may not read '0/gram'"):
        readable(told, None, None)("0/gram")


def test_content_is_a_copy_of_the_coordinators(tmp_path):
    own, other = tmp_path / "own.parquet", tmp_path / "other.parquet"
    own.write_bytes(b"the same")
    membership = SimpleNamespace(catalogue=tmp_path / "none.txt", content=own)
    room, done = SimpleNamespace(name="a", membership=membership), []

    def job(_room, _told, _channel):
        done.append(True)
        return {}

    def told(path):
        return told_of(tmp_path / "none.txt", None, content.digest(path))

    other.write_bytes(b"the same")
    follow(room, job, told(other), None)
    follow(room, job, {}, None)  # a job that needs none
    other.write_bytes(b"other")
    expected = r"a: content: found {}, expected a file of the same bytes as the coordinator's"
    for path in (other, tmp_path / "none.parquet", None):
        with pytest.raises(BadInput, match=expected.format(own)):
            follow(room, job, told(path), None)
    membership.content = None
    with pytest.raises(BadInput, match=expected.format("none")):
        follow(room, job, told(other), None)
    assert len(done) == 2


def test_a_file_that_says_something_else_is_told_by_its_key(tmp_path):
    coordinator = read_consortium(write(tmp_path)).memberships[0]
    for more, told in (
        ("rounds: {deadline_seconds: 60}", "rounds.deadline_seconds: 60.0, the coordinator's 600.0"),
        ("seed: 7", "seed: 7, the coordinator's 0"),
    ):
        own = read_consortium(write(tmp_path, more=more)).memberships[0]
        with pytest.raises(BadInput, match=f"east: its own file has {told}; expected the same"):
            own.require_agreed(coordinator.agreed)
    own.require_agreed(json.loads(json.dumps(own.agreed)))


def test_what_a_participant_was_told_before_it_could_join_is_still_read(tmp_path):
    told = read_consortium(write(tmp_path)).memberships[2].model_dump(mode="json")
    before = {key: value for key, value in told.items() if key not in ("certificates", "coordinator")}
    assert Membership.model_validate(before).certificate is None


def test_what_lacks_to_take_part_is_told(tmp_path, capsys):
    path = write(tmp_path)
    for name, told in (
        ("west", "participant 'west' is not known; expected one of east, north, south"),
        ("south", r"participants.south.certificate: found none"),
        ("east", "coordinator.crt: found none, expected"),
    ):
        with pytest.raises(BadInput, match=told):
            joining.join(path, name, None)
    joining.make_identity(path, None)
    joining.make_identity(path, "east")
    with pytest.raises(BadInput, match=r"north.crt: found none, expected a certificate"):
        joining.join(path, "east", None)  # without it no key of north's could be checked
    said = capsys.readouterr().out.replace("\n", "")
    assert f"Wrote {tmp_path}/east.crt: give it to every organisation" in said
    with pytest.raises(BadInput, match=r"identity.key: exists already"):
        joining.make_identity(path, "east")
    path.write_text(re.sub("(certificate: east.crt\n).*\n", r"\1", path.read_text()))
    with pytest.raises(BadInput, match=r"participants.east.events: found none, expected its event files"):
        joining.join(path, "east", None)
    path.write_text(re.sub("coordinator: .*\n", "", path.read_text()))
    with pytest.raises(BadInput, match="coordinator: found none, expected the address at which east"):
        joining.join(path, "east", None)
    path.write_text(re.sub("    certificate: east.crt\n", "", path.read_text()))
    with pytest.raises(BadInput, match=r"participants.east: events: found none, expected its event"):
        read_consortium(path)


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "a..b:7443", f"{'a' * 64}:7443", "host"])
def test_an_address_that_is_none_is_told(tmp_path, address):
    path = write(tmp_path)
    path.write_text(path.read_text().replace("127.0.0.1:7443", address))
    told = f"coordinator.address: found '{address}', expected host:port, with a port up to 65535"
    with pytest.raises(BadInput, match=told):
        read_consortium(path)


def test_a_run_that_cannot_listen_has_failed_and_says_why(tmp_path, monkeypatch):
    """Not "ended without a word"."""
    told = Mock(start_or_continue=Mock(return_value="m"))
    monkeypatch.setattr(opening, "Tracking", lambda *_: told)
    one = read_consortium(write(tmp_path))
    with pytest.raises(BadInput), opening.open_run(one.home, one.memberships, "r", one.settings()):
        pass
    facts = find_run(one.home, "r").facts
    assert (facts["status"], "east.crt: found none" in facts["reason"]) == ("failed", True)
    told.finish.assert_called_once_with("m", "FAILED")


def test_what_needs_all_rows_in_one_place_says_who_is_elsewhere(tmp_path):
    path = write(tmp_path)
    with pytest.raises(BadInput, match="chorus compare reads everybody's events on one machine; found east"):
        operate.start(path, None, None, pooled=True)
    with pytest.raises(BadInput, match="chorus replay reads everybody's events on one machine"):
        replay.start(path, None, None, None, 7, None, None)


def test_check_looks_at_those_whose_events_are_here(tmp_path, capsys):
    path = write(tmp_path)
    setup.check(path, None, tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text())["participants"].keys() == {"south"}
    said = capsys.readouterr().out
    assert "On other machines, to be checked there: east, north" in said
    assert f"Warning: found no {tmp_path}/coordinator.crt, {tmp_path}/east.crt, {tmp_path}/north.crt" in said
    assert f"is ready: {typed()} run" in said
    joining.make_identity(path, "east")
    setup.check(path, None, tmp_path / "found.json")
    said = capsys.readouterr().out
    assert f"Warning: found no {tmp_path}/coordinator.crt, {tmp_path}/north.crt" in said
    assert f"is ready: {typed()} join {path} --as east" in said
    assert json.loads((tmp_path / "found.json").read_text())["participants"].keys() == {"east"}


def test_neither_an_organisation_nor_a_coordinator_needs_the_others_files(tmp_path):
    """South's, which runs where the coordinator does, are not at east; a coordinator alone has nobody's."""
    path = write(tmp_path)
    generate_world(read_consortium(path))
    path.write_text(re.sub("world: .*\n", f"data: {tmp_path}/state/small/world\n", path.read_text()))
    (tmp_path / "state" / "small" / "world" / "south.parquet").unlink()
    joining.make_identity(path, "east")
    setup.check(path, None, tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text())["participants"].keys() == {"east"}
    nowhere = read_consortium(path, tmp_path / "nowhere")
    with pytest.raises(BadInput, match="data: found no folder"):
        require_data(nowhere)
    alone = re.sub("- name: south\n", "- name: south\n    certificate: south.crt\n", path.read_text())
    path.write_text(alone)
    require_data(read_consortium(path, tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="data: found no folder"):
        joining.join(path, "east", tmp_path / "nowhere")
