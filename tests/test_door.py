import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import PROGRAM, door_of, program, when_stopped

from federation.door import Door
from federation.errors import BadInput, ChorusError, Lost, Refused
from federation.frames import MAX_HEADER
from federation.keyring import PUBLIC
from federation.masks import KeyPair
from federation.plan import RoundPlan
from federation.program import Program
from federation.told import DIGEST

PLAN = RoundPlan(run="r", number=0, cohort=("a", "b", "c"))


@pytest.fixture
def door(tmp_path):
    with door_of("a", tmp_path) as door:
        yield door


def gone(pid, seconds=10.0):
    """Whether the process ends within `seconds`."""
    until = time.monotonic() + seconds
    while True:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(0.02)


def test_answers_one_request_after_the_other(door):
    assert door.peer.pid is None
    assert door.ask("echo", {"x": [1, "ü"]}) == {"x": [1, "ü"]}
    pid = door.peer.pid
    assert door.ask("echo", {}) == {}
    assert door.peer.pid == pid
    assert door.starts == 1
    door.close()
    assert gone(pid)
    assert door.ask("echo", {"again": True}) == {"again": True}


def test_requests_from_threads_wait_for_each_other(door):
    answers = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(door.ask("echo", {"n": n}))) for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer["n"] for answer in answers) == list(range(5))


def test_errors_say_what_is_known_and_never_data(door, tmp_path):
    with pytest.raises(BadInput, match=r"a: knows no job 'dance', only \['echo'"):
        door.ask("dance")
    with pytest.raises(ChorusError, match="KeyError") as caught:
        door.ask("secret_error")
    assert "alice" not in str(caught.value)
    with pytest.raises(ChorusError, match="FileNotFoundError"):
        door.ask("missing_file")
    log = tmp_path / "a.log"
    assert "alice@example.org" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert door.starts == 1


def test_a_file_name_that_is_no_text_is_told_and_logged(tmp_path):
    log = tmp_path / "own.log"
    with door_of("a", tmp_path, "--log", str(log)) as door:
        with pytest.raises(BadInput, match=r"^a: caf\\udce9.csv: found nothing"):
            door.ask("odd_error")
        assert r"caf\udce9.csv" in log.read_text()
        assert door.starts == 1


def test_an_answer_that_is_too_large_is_told(door):
    with pytest.raises(Refused, match=r"a frame of \d+ \+ 0 bytes is over the limit"):
        door.ask("long", {"length": MAX_HEADER})
    assert door.ask("echo", {"again": True}) == {"again": True}
    assert door.starts == 1


def test_a_log_of_its_own_is_its_owners_only(tmp_path):
    log = tmp_path / "own.log"
    with door_of("a", tmp_path, "--log", str(log)) as door:
        with pytest.raises(ChorusError):
            door.ask("secret_error")
        assert "alice@example.org" in log.read_text()
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        assert (tmp_path / "a.log").read_text() == ""


@pytest.mark.parametrize(("job", "arguments"), [("sleep", {"seconds": 600}), ("stop", {})])
def test_who_hangs_is_ended_at_the_deadline(door, job, arguments):
    door.ask("echo", {})
    pid, started = door.peer.pid, time.monotonic()
    with pytest.raises(Lost, match=r"a: silent until its deadline of 0.5 s"):
        door.ask(job, arguments, deadline_seconds=0.5)
    assert time.monotonic() - started < 5
    assert gone(pid, 0)
    assert door.ask("echo", {"alive": 1}) == {"alive": 1}
    assert door.starts == 2


def test_killed_from_another_thread(door):
    door.ask("echo", {})
    when_stopped(door, door.kill)
    with pytest.raises(Lost, match="a: its process ended"):
        door.ask("stop")


NAGS = """
import socket, sys, time
from federation.frames import Frames
frames = Frames(socket.socket(fileno=int(sys.argv[2])))
frames.receive()
for _ in range(100):
    frames.send({"say": "anything"})
    frames.receive()
    time.sleep(0.05)
"""


def test_who_goes_on_after_errors_is_ended_too(tmp_path, monkeypatch):
    monkeypatch.setattr("federation.door.GRACE", 0.5)
    door, started = program("a", ["-c", NAGS], tmp_path), time.monotonic()
    with door, pytest.raises(Lost, match=r"a: silent until its deadline of 1 s"):
        door.ask("echo", deadline_seconds=1.0)
    assert time.monotonic() - started < 4


ANSWERS = """
import json, socket, sys
from federation.frames import Frames
frames = Frames(socket.socket(fileno=int(sys.argv[3])))
frames.receive()
frames.send(json.loads(sys.argv[1]))
frames.receive()
"""


def answering(answer, folder):
    """A door to a process that answers the first request so, whatever it is."""
    return program("a", ["-c", ANSWERS, answer], folder)


@pytest.mark.parametrize("error", ["null", '"x"', '{"type": "Lost", "participants": ["b"]}', '{"type": []}'])
def test_an_error_that_cannot_be_read_is_one_of_the_participant(error, tmp_path):
    door = answering(f'{{"say": "error", "error": {error}}}', tmp_path)
    with door, pytest.raises(ChorusError, match=r"^a: unknown error"):
        door.ask("echo")


def test_a_text_goes_into_logs_as_one_short_line(tmp_path):
    """Else it could clear a terminal, forge lines, or keep the server busy for minutes."""
    odd = "\x1b[2J\x00two\nlines \u202e" + "\U000e0001" * 2_000
    many = {f"{n}" + "x" * 300: "\u202e" * 40 for n in range(100)}
    for text in ({"type": "BadInput", "message": odd}, {"type": "Lost", "participants": {"b": odd} | many}):
        door = answering(json.dumps({"say": "error", "error": text}), tmp_path)
        with door, pytest.raises(ChorusError) as caught:
            door.ask("echo")
        assert r"\x1b[2J\x" in str(caught.value)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 30_000


@pytest.mark.parametrize("public", [None, "x", "ab" * 31, "00" * 32, "01" + "00" * 31])
def test_a_key_that_would_serve_nobody_is_refused_by_name(public, tmp_path):
    """Else the others could not agree on masks with it, and were lost in its place."""
    shown = public and public + "00" * DIGEST
    door = answering(json.dumps({"say": "ready", "shown": shown}), tmp_path)
    with door, pytest.raises(Refused, match="a: its public key is not one of X25519"):
        door.ready(PLAN, "echo", deadline_seconds=20)


def test_a_program_that_does_not_start_is_told(tmp_path):
    with pytest.raises(BadInput, match="a: cannot start: /nonexistent: No such file"):
        Door("a", Program("a", ["/nonexistent"], tmp_path / "a.log")).ask("echo")
    with pytest.raises(Lost, match=r"a: its process ended \(exit code 3\)"):
        program("a", ["-c", "raise SystemExit(3)"], tmp_path).ask("echo")


def test_a_job_without_a_round_has_no_sums(door):
    with pytest.raises(Refused, match="belongs to no round"):
        door.ask("sum_vector", {"vector": [1.0]})


def test_keys_are_fresh_for_each_ready_call_and_serve_one_job(door):
    keys = [door.ready(PLAN, "echo", deadline_seconds=20) for _ in range(3)]
    assert len(set(keys)) == 3
    publics = dict(zip("abc", [keys[2], *keys[:2]], strict=True))
    assert door.ask("echo", {}, plan=PLAN, keys=publics) == {}
    with pytest.raises(Refused, match="was not asked whether it is ready for r/0/0"):
        door.ask("echo", {}, plan=PLAN, keys=publics)


def test_the_participant_holds_to_its_own_policy(door):
    with pytest.raises(Refused, match="not invited"):
        door.ready(RoundPlan(run="r", number=0, cohort=("b", "c")), "echo", deadline_seconds=20)
    door.ready(PLAN, "echo", deadline_seconds=20)
    with pytest.raises(Refused, match="did not agree to sums without masks"):
        door.ask("echo", {}, plan=PLAN)
    key = door.ready(PLAN, "echo", deadline_seconds=20)
    two = RoundPlan(run="r", number=0, cohort=("a", "b"))
    with pytest.raises(Refused, match="agreed to sums of 3 or more"):
        door.ask("echo", {}, plan=two, keys={"a": key, "b": key})
    door.ready(PLAN, "echo", deadline_seconds=20)
    others = RoundPlan(run="r", number=0, cohort=("b", "c", "d"))
    with pytest.raises(Refused, match="agreed to sums of 3 or more with itself"):
        door.ask("echo", {}, plan=others, keys={"b": key, "c": key, "d": key})
    door.ready(PLAN, "echo", deadline_seconds=20)
    with pytest.raises(Refused, match="was not asked whether it is ready for r/0/1"):
        door.ask("echo", {}, plan=PLAN.again(PLAN.cohort), keys={})


@pytest.mark.parametrize("other", [{"run": "s"}, {"number": 1}])
def test_a_job_of_another_round_than_the_plan_s_is_refused(door, other):
    """Else its terms were remembered under another name, and could be added among others once more."""
    key = door.ready(PLAN, "echo", deadline_seconds=20)
    publics = {"a": key, **{name: KeyPair().public.hex() + key[2 * PUBLIC :] for name in "bc"}}
    with pytest.raises(Refused, match="the job is of another round than the plan r/0"):
        door.ask("echo", {"run": "r", "number": 0, **other}, plan=PLAN, keys=publics)


PARENT = """
import sys, time
from pathlib import Path
from threading import Thread
from federation.door import Door
from federation.program import Program
folder = Path(sys.argv[1])
doors = [Door(n, Program(n, [sys.executable, sys.argv[2], n], folder / n)) for n in "ab"]
for door in doors:
    door.ask("echo", {})
Thread(target=doors[0].ask, args=("sleep", {"seconds": 600})).start()
time.sleep(0.2)
print(*[door.peer.pid for door in doors], flush=True)
"""


def test_participants_end_with_a_parent_that_is_killed(tmp_path):
    command = [sys.executable, "-c", PARENT, str(tmp_path), PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(gone(pid, 0) for pid in pids)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    assert all(gone(pid) for pid in pids)
