"""Participants that connect from other machines: real TLS between a listener and real processes."""

import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from processes import Consortium

from federation import identity
from federation.door import Door
from federation.errors import BadInput, Lost, Refused
from federation.frames import Frames
from federation.joining import dial, welcomed
from federation.keyring import SHOWN, Keyring
from federation.listener import MOST_HANDSHAKES, Listener, Remote, closed
from federation.masks import KeyPair
from federation.plan import RoundPlan
from federation.told import DIGEST

PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import participant_program as program
from federation import identity
from federation.joining import dial, welcomed
from federation.keyring import Keyring
from federation.participant import serve
folder, name, port, names = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
coordinator = identity.read(folder / "coordinator.crt")
tls = identity.client_side(folder / f"{name}.key", folder / f"{name}.crt", coordinator)
keyring = Keyring(name, folder / f"{name}.key", {each: folder / f"{each}.crt" for each in names})
connection = welcomed(dial(("127.0.0.1", port)), tls, coordinator)
def hang(told, channel):
    Path(told["begun"]).touch()
    program.sleep({"seconds": 600}, channel)
jobs = {"hang": hang, "echo": program.echo, "sum_vector": program.sum_vector, "sleep": program.sleep}
serve(connection, name, jobs, keyring=keyring, alike=program.alike)
"""


@pytest.fixture
def folder(tmp_path):
    """Keys and certificates of a coordinator, of a, b, c, and of a stranger."""
    for name in ("coordinator", *"abc", "stranger"):
        identity.create(name, tmp_path / f"{name}.key", tmp_path / f"{name}.crt")
    return tmp_path


@pytest.fixture
def listener(folder):
    """It listens for a, b and c; `told` is what it says of who is turned away."""
    certificates = {name: identity.read(folder / f"{name}.crt") for name in "abc"}
    tls = identity.server_side(folder / "coordinator.key", folder / "coordinator.crt", certificates.values())
    told = []
    with Listener(("127.0.0.1", 0), tls, certificates, told.append) as found:
        found.told = told
        yield found


@contextmanager
def joined(listener, folder, name, names="abc"):
    """A participant's process on its own, connected to the listener."""
    argv = [
        sys.executable,
        "-c",
        PROGRAM,
        str(Path(__file__).parent),
        str(folder),
        name,
        str(listener.port),
        names,
    ]
    with subprocess.Popen(argv) as process:
        try:
            yield process
        finally:
            process.kill()


def shown(listener, folder, name):
    """The connection of who shows the certificate of `name`; raises as a participant's process would."""
    coordinator = identity.read(folder / "coordinator.crt")
    tls = identity.client_side(folder / f"{name}.key", folder / f"{name}.crt", coordinator)
    return welcomed(dial(("127.0.0.1", listener.port)), tls, coordinator)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_masked_sum_over_tls_is_that_of_socket_pairs(listener, folder):
    local = Consortium(folder, "abc")
    expected = local.round().results["b"]["total"]
    local.close()
    remote = Consortium(folder, "abc")
    remote.doors = {
        name: Door(name, Remote(name, listener, 20), identity.read(folder / f"{name}.crt")) for name in "abc"
    }
    with ExitStack() as stack:
        for name in "abc":
            stack.enter_context(joined(listener, folder, name))
        assert [each["total"] for each in remote.round().results.values()] == [expected] * 3
        remote.close()


def test_who_is_ended_at_the_deadline_comes_again(listener, folder):
    with Door("a", Remote("a", listener, 20)) as door, joined(listener, folder, "a") as process:
        assert door.ask("echo", {"x": 1}) == {"x": 1}
        with pytest.raises(Lost, match=r"a: silent until its deadline of 0.5 s"):
            door.ask("sleep", {"seconds": 600}, deadline_seconds=0.5)
        assert process.wait(20) == 0
        with joined(listener, folder, "a"):
            assert door.ask("echo", {"x": 2}) == {"x": 2}
        assert door.starts == 2


def when(begun, then):
    """In a thread, `then()` as soon as the job that touches the file `begun` is at work."""
    thread = threading.Thread(target=lambda: (until(begun.exists), then()))
    thread.start()
    return thread


def test_who_dies_or_comes_anew_is_lost_at_once(listener, folder):
    with Door("a", Remote("a", listener, 20)) as door, joined(listener, folder, "a") as process:
        when(folder / "begun", process.kill)
        with pytest.raises(Lost, match="a: its connection was closed"):
            door.ask("hang", {"begun": str(folder / "begun")}, deadline_seconds=30)
    with Door("a", Remote("a", listener, 20)) as door, joined(listener, folder, "a"):
        anew = []
        again = when(folder / "again", lambda: anew.append(shown(listener, folder, "a")))
        with pytest.raises(Lost, match="a: its connection was closed"):  # the old line may be dead unnoticed
            door.ask("hang", {"begun": str(folder / "again")}, deadline_seconds=30)
        again.join()
        anew[0].close()
        until(lambda: listener.told == ["a has come anew: its older connection is cut"])


def test_who_has_not_connected_is_lost_after_its_patience(listener):
    door, began = Door("b", Remote("b", listener, 0.3)), time.monotonic()
    with pytest.raises(Lost, match=r"b: has not connected within 0.3 s"):
        door.ask("echo")
    assert time.monotonic() - began < 5


def test_all_are_waited_for_together_and_anew_for_who_was_here(listener, folder):
    with shown(listener, folder, "a"), listener.take("a", 20):
        pass
    listener._began -= 100
    began = time.monotonic()
    with pytest.raises(Lost, match="b: has not connected within 50 s"):
        listener.take("b", 50)
    assert time.monotonic() - began < 20
    again = []
    threading.Timer(0.5, lambda: again.append(shown(listener, folder, "a"))).start()
    with listener.take("a", 20):
        until(lambda: again)
        again[0].close()


def test_of_one_who_comes_twice_the_newer_connection_counts(listener, folder):
    """Before it is asked: what is closed, by it or as it came anew, is not taken."""
    with shown(listener, folder, "a") as older, shown(listener, folder, "a") as newer:
        until(lambda: closed(older))
        with listener.take("a", 20) as taken:
            taken.sendall(b"!")
            assert newer.recv(1) == b"!"
    shown(listener, folder, "b").close()
    with pytest.raises(Lost, match="b: has not connected"):
        listener.take("b", 0.5)


def test_a_stranger_is_turned_away_and_told_so_once(listener, folder):
    for name in ("stranger", "stranger"):
        with pytest.raises(Refused, match="the coordinator turned us away"):
            shown(listener, folder, name)
    until(lambda: listener.told)
    time.sleep(0.2)  # for what must not come
    assert len(listener.told) == 1
    assert "a connection from 127.0.0.1 is turned away: CERTIFICATE_VERIFY_FAILED" in listener.told[0]


def test_who_answers_in_the_coordinator_s_place_is_refused(folder):
    tls = identity.server_side(folder / "stranger.key", folder / "stranger.crt", [])
    with Listener(("127.0.0.1", 0), tls, {}) as other, pytest.raises(Refused, match="whoever answers there"):
        shown(other, folder, "a")


def test_who_ends_the_connection_before_a_word_is_tried_again(folder):
    """As a run that is over just then: it has turned nobody away."""
    with socket.create_server(("127.0.0.1", 0)) as over:
        threading.Timer(0.3, lambda: over.accept()[0].close()).start()
        with pytest.raises(ConnectionError):
            shown(SimpleNamespace(port=over.getsockname()[1]), folder, "a")


def test_a_participant_cannot_vouch_for_another(listener, folder):
    """A certificate that is signed with a's key is not a's, and lets nobody in."""
    issuer = x509.load_pem_x509_certificate((folder / "a.crt").read_bytes())
    key = Ed25519PrivateKey.generate()
    forged = (
        x509.CertificateBuilder(issuer.subject, issuer.subject, key.public_key(), 7)
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .sign(load_pem_private_key((folder / "a.key").read_bytes(), None), None)
    )
    chain = forged.public_bytes(Encoding.PEM) + issuer.public_bytes(Encoding.PEM)
    (folder / "forged.crt").write_bytes(chain)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "forged.key").write_bytes(private)
    with pytest.raises(Refused, match="the coordinator turned us away"):
        shown(listener, folder, "forged")


def test_a_certificate_out_of_date_is_the_trouble_of_its_holder_alone(folder):
    key = load_pem_private_key((folder / "a.key").read_bytes(), None)
    name, past = x509.load_pem_x509_certificate((folder / "a.crt").read_bytes()).subject, datetime(2020, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, past, past + timedelta(1))
    (folder / "a.crt").write_bytes(builder.sign(key, None).public_bytes(Encoding.PEM))
    certificates = {name: identity.read(folder / f"{name}.crt") for name in "ab"}
    tls = identity.server_side(folder / "coordinator.key", folder / "coordinator.crt", certificates.values())
    told = []
    with Listener(("127.0.0.1", 0), tls, certificates, told.append) as listener:
        with pytest.raises(BadInput, match=r"a\.crt: is valid from 2020-01-01 to 2020-01-02, expected today"):
            shown(listener, folder, "a")
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
        plain.load_cert_chain(folder / "a.crt", folder / "a.key")
        with pytest.raises(Refused, match="the coordinator turned us away"):
            welcomed(dial(("127.0.0.1", listener.port)), plain, identity.read(folder / "coordinator.crt"))
        until(lambda: told)
        with joined(listener, folder, "b", "ab"), Door("b", Remote("b", listener, 20)) as door:
            assert door.ask("echo", {"x": 1}) == {"x": 1}


def test_what_speaks_no_tls_and_who_says_nothing_hold_nobody_up(listener, folder):
    silent = [dial(("127.0.0.1", listener.port)) for _ in range(MOST_HANDSHAKES + 5)]
    loud = dial(("127.0.0.1", listener.port))
    loud.sendall(b"GET / HTTP/1.1\r\n\r\n")
    until(lambda: any("is turned away: HTTP_REQUEST" in told for told in listener.told))
    with joined(listener, folder, "a"), Door("a", Remote("a", listener, 20)) as door:
        assert door.ask("echo", {"x": 1}) == {"x": 1}
    for each in (*silent, loud):
        each.close()


def test_older_tls_is_refused(listener, folder):
    tls = identity.client_side(folder / "a.key", folder / "a.crt", identity.read(folder / "coordinator.crt"))
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", listener.port)) as plain, pytest.raises(ssl.SSLError):
        tls.wrap_socket(plain)


def test_a_key_in_another_s_place_is_refused(listener, folder):
    """The coordinator shows a key of its own as b's: it would take a's masks off."""
    forger = Keyring("b", folder / "stranger.key", {})
    plan = RoundPlan(run="r", number=0, cohort=tuple("abc"))
    with joined(listener, folder, "a"), Door("a", Remote("a", listener, 20)) as door:
        for wrong in (forger.signed(plan.label, bytes(SHOWN)), bytes(SHOWN)):
            keys = {"a": door.ready(plan, "sum_vector", deadline_seconds=20), "b": wrong.hex()}
            keys["c"] = Keyring("c", folder / "c.key", {}).signed(plan.label, bytes(SHOWN)).hex()
            with pytest.raises(Refused, match="a: the key shown as b's is not signed by it"):
                door.ask("sum_vector", {"vector": [1.0]}, plan=plan, keys=keys)


def test_who_signs_nothing_is_refused_in_place_of_those_who_would_refuse_it(listener, folder):
    """Else it would have all honest ones left out of the round."""
    plan = RoundPlan(run="r", number=0, cohort=tuple("abc"))
    key = KeyPair().public + bytes(DIGEST)
    replies = [key, key + bytes(64), Keyring("a", folder / "stranger.key", {}).signed(plan.label, key)]
    own = identity.read(folder / "a.crt")
    with Door("a", Remote("a", listener, 20), own) as door:
        frames = Frames(shown(listener, folder, "a"))
        for wrong in replies:
            frames.send({"say": "ready", "shown": wrong.hex()})
            with pytest.raises(Refused, match="a: its public key is not signed by the key of its certific"):
                door.ready(plan, "sum_vector", deadline_seconds=20)
        signed = Keyring("a", folder / "a.key", {}).signed(plan.label, key).hex()
        frames.send({"say": "ready", "shown": signed})
        assert door.ready(plan, "sum_vector", deadline_seconds=20) == signed
        frames.close()


def test_who_is_not_in_its_own_file_is_in_no_sum_of_a_participant(listener, folder):
    """Else the coordinator could fill the cohort up with names of its own."""
    plan = RoundPlan(run="r", number=0, cohort=tuple("axy"))
    with joined(listener, folder, "a"), Door("a", Remote("a", listener, 20)) as door:
        keys = dict.fromkeys("xy", bytes(SHOWN).hex())
        keys["a"] = door.ready(plan, "sum_vector", deadline_seconds=20)
        with pytest.raises(Refused, match="a: its own file has no participant x, y"):
            door.ask("sum_vector", {"vector": [1.0]}, plan=plan, keys=keys)
