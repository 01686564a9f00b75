"""A server on a leash ends with whoever holds it, with all that it started."""

import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from federation.errors import Refused
from tasks import locks, server

HOLDER = """
import subprocess, sys, time
child = '''
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"], start_new_session=True)
print("up", flush=True)
time.sleep(99)
'''
process = subprocess.Popen([sys.executable, sys.argv[1], sys.executable, "-c", child], stdin=subprocess.PIPE)
time.sleep(99)
"""


def descendants(pid):
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *descendants(child)]
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_all_end_when_the_holder_is_killed():
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(server.LEASH)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "up\n"
    below = descendants(holder.pid)
    assert len(below) == 3  # the leash, the command, and what the command set apart
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    deadline = time.monotonic() + 20
    while any(map(alive, below)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in below if alive(pid)]


def test_the_command_ends_with_the_block(tmp_path):
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(99)"]
    with server.leashed(command, tmp_path / "log") as process:
        deadline = time.monotonic() + 20
        while "up" not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None
    assert process.returncode is not None


def test_a_state_folder_serves_one_at_a_time(tmp_path):
    with locks.exclusive(tmp_path):
        code = (
            "import sys; from pathlib import Path; from tasks import locks\n"
            "with locks.exclusive(Path(sys.argv[1])): pass"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
        assert done.returncode != 0
        assert f"in use by process {locks.me()}" in done.stderr
        assert Refused.__name__ in done.stderr
    with ExitStack() as other:
        other.enter_context(locks.exclusive(tmp_path))
        said = []

        def say(text):
            said.append(text)
            other.close()

        with locks.exclusive(tmp_path, 20, say):
            pass
    assert said == [f"{tmp_path} is in use by process {locks.me()}: waits for it"]
