"""Participants that are processes, and rounds among them, for the tests of rounds."""

import json
import os
import sys
import threading
from pathlib import Path

from federation.door import Door
from federation.plan import RoundPlan
from federation.policy import RoundPolicy
from federation.program import Program
from federation.rounds import together

PROGRAM = str(Path(__file__).with_name("participant_program.py"))


class Opened:
    """The totals of the newest attempt."""

    def __init__(self):
        self.label, self.totals = "", {}

    def __call__(self, plan, name, form, total):
        if plan.label != self.label:
            self.label, self.totals = plan.label, {}
        self.totals[name] = form.decode(total.words)


def door_of(name, folder, *options):
    """A door that leads to the small participant's program; what it prints is in `folder`."""
    return program(name, [PROGRAM, name, *options], folder)


def program(name, argv, folder):
    """A door that leads to what Python does with `argv`; what it prints is in `folder`."""
    return Door(name, Program(name, [sys.executable, *argv], folder / f"{name}.log"))


class Consortium:
    """Doors of a, b, c, ... and rounds among them; vectors are [1, 1/3], [2, 1/3], ..."""

    def __init__(self, folder, names="abcd", **policy):
        self.policy = RoundPolicy(**policy)
        own = json.dumps(policy)
        self.doors = {
            name: door_of(name, folder, "--policy", own, "--memory", str(folder / name)) for name in names
        }
        self.opened = Opened()
        self.memory = None
        self.number = 0

    def round(self, job="sum_vector", deadline=60.0, rounds=1, **troubles):
        self.number += 1
        self.plan = RoundPlan(
            run="r", number=self.number, cohort=tuple(self.doors), deadline_seconds=deadline
        )
        return together(
            self.doors,
            self.plan,
            job,
            lambda name: {"vector": vector_of(name), "rounds": rounds, **troubles.get(name, {})},
            self.policy,
            self.opened,
            lambda name: self.opened.totals[name],
            self.memory,
        )

    def close(self):
        for door in self.doors.values():
            door.close()


def vector_of(name):
    return [1.0 + "abcdefgh".index(name), 1 / 3]


def when_stopped(door, then):
    """In a thread, `then()` as soon as the participant's process stands still."""

    def wait():
        os.waitid(os.P_PID, door.peer.pid, os.WSTOPPED)
        then()

    threading.Thread(target=wait, daemon=True).start()
