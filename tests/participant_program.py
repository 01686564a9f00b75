"""A small participant for the tests of federation: `python participant_program.py NAME ... --fd N`."""

import argparse
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from federation.channel import Channel
from federation.fixed_point import FixedPoint
from federation.participant import serve
from federation.policy import RoundPolicy

FORM = FixedPoint(terms=16)
SPECIAL = {"nan": np.nan, "infinity": np.inf, "huge": 1e30}


def echo(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    return arguments


def long(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    return {"text": "x" * arguments["length"]}


def sleep(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    time.sleep(arguments["seconds"])
    return {}


def stop(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGSTOP)
    return {}


def sum_vector(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """`rounds` sums of the `vector`; what `trouble` says happens at the one that `at` counts."""
    for number in range(arguments.get("rounds", 1)):
        vector = np.array(arguments["vector"], float)
        if number == arguments.get("at", 0) and not _spared(arguments):
            vector = _trouble(arguments.get("trouble"), vector)
        total = channel.sum(arguments.get("name", f"sum/{number}"), vector, FORM)
    return {"total": total.tolist(), "pid": os.getpid()}


def read_total(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    return {"total": channel.read(arguments["name"]).tolist()}


def secret_error(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    raise KeyError("alice@example.org")


def odd_error(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    raise ArithmeticError(os.fsdecode(b"caf\xe9.csv: found nothing"))


def missing_file(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    return {"text": Path("/nonexistent/file").read_text()}


def grow(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    total = channel.sum("large", np.full(arguments["length"], 0.5), FORM)
    return {"correct": bool((total == 0.5 * arguments["terms"]).all())}


def hear_part(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    vector, form = np.arange(10), FixedPoint(fraction_bits=0, terms=16)
    return {"heard": channel.sum("x", vector, form, slice(*arguments["part"])).tolist()}


def late_sum(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    time.sleep(arguments["seconds"])
    channel.sum("late", np.ones(3), FORM)
    return {"secret": 1}


def _spared(arguments: dict[str, Any]) -> bool:
    """With `once`, a file that is there, trouble has happened already."""
    once = arguments.get("once")
    if once is None:
        return False
    if Path(once).exists():
        return True
    Path(once).touch()
    return False


def _trouble(kind: str | None, vector: np.ndarray) -> np.ndarray:
    if kind in SPECIAL:
        vector[-1] = SPECIAL[kind]
    if kind == "shape":
        return vector[:-1]
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    return vector


JOBS = {
    job.__name__: job
    for job in (
        echo,
        long,
        sleep,
        stop,
        sum_vector,
        read_total,
        secret_error,
        odd_error,
        missing_file,
        grow,
        hear_part,
        late_sum,
    )
}


def alike(job: str, arguments: dict[str, Any]) -> Any:
    """Only cuts are told alike: vectors are each one's own, and so is trouble."""
    return arguments.get("cuts")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--policy", type=json.loads, default={})
    parser.add_argument("--log", type=Path)
    parser.add_argument("--memory", type=Path)
    parser.add_argument("--fd", type=int, required=True)
    options = parser.parse_args(sys.argv[1:])
    serve(
        socket.socket(fileno=options.fd),
        options.name,
        JOBS,
        RoundPolicy(**options.policy),
        options.log,
        shown=(ArithmeticError,),
        memory=options.memory,
        alike=alike,
    )
