"""A small consortium, and commands that are really run on it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORLD = """
name: small
state: {state}
world: {{seed: 3, shops: 3, users: 300, items: 150, days: 200, events: 9000, drift: slow}}
participants:
  - name: east
    events: {{path: east.csv, columns: {{user: user, item: item, value: rating, time: time}}}}
    reachable: truth-east.parquet
  - name: north
    events:
      path: north.tsv.gz
      columns: {{user: customer, item: product, value: stars, time: bought_at}}
      time_unit: s
    reachable: truth-north.parquet
  - name: south
    events:
      path: south.parquet
      columns: {{user: user, item: item, value: rating, time: time}}
      time_unit: us
    reachable: truth-south.parquet
    discloses: {{rows: false, users: false, metrics: false}}
model: {{two_stage: {{candidates: 10, learn_from: 1, boosting: {{trees: 20, min_data_in_leaf: 20}}}}}}
cleaning: {{bot_events_per_hour: 100}}
{more}
"""


@dataclass
class Small:
    """A folder in which the consortium `small` is run from the command line."""

    folder: Path
    done: subprocess.CompletedProcess | None = None

    @property
    def home(self):
        return self.folder / "state" / "small"

    @property
    def run(self):
        """The folder of the one run that there is."""
        (found,) = (self.home / "coordinator" / "runs").iterdir()
        return found

    def consortium(self, more=""):
        path = self.folder / "small.yaml"
        path.write_text(WORLD.format(state=self.folder / "state", more=more))
        return path

    def chorus(self, *arguments, code=0, **environment):
        """Run a command, and expect its exit code."""
        done = subprocess.run(
            self._command(arguments), **self._where(environment), capture_output=True, text=True, timeout=500
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def start(self, *arguments):
        """The command on its own, to be stopped or killed."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(self._command(arguments), **self._where({}), **quiet)

    def kill(self, started):
        """SIGKILL, and wait until whatever the process had started has ended with it."""
        started.send_signal(signal.SIGKILL)
        started.wait()
        deadline = time.monotonic() + 30
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not left, f"still running: {left}"

    def processes(self, naming=""):
        """Ids of the processes whose command line or environment names this folder, and `naming`."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                told = (entry / "cmdline").read_bytes()
                if str(self.folder).encode() in told + (entry / "environ").read_bytes():
                    found += [int(entry.name)] if naming.encode() in told else []
        return [pid for pid in found if pid != os.getpid()]

    def _command(self, arguments):
        return [sys.executable, "-m", "flows.cli", *map(str, arguments)]

    def _where(self, environment):
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return {
            "cwd": self.folder,
            "env": {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **environment},
        }
