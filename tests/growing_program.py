"""A participant that grows trees, for the tests: `python growing_program.py NAME --policy ... --fd N`."""

import argparse
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np

from federation.channel import Channel, Solo
from federation.errors import ChorusError
from federation.fixed_point import FixedPoint
from federation.participant import serve
from federation.policy import RoundPolicy
from recommenders.bins import Bins, agree
from recommenders.boosting import BoostingConfig, Rows
from recommenders.growth import begin, grow

CONFIG = BoostingConfig(objective="binary", num_leaves=6, min_data_in_leaf=5, max_bin=15)


def rows_of(name: str) -> Rows:
    """A few hundred rows of the participant `name`."""
    random = np.random.default_rng(ord(name))
    features = random.normal(size=(100 + 20 * ord(name) % 90, 4))
    signal = features[:, 0] * features[:, 1] + random.normal(size=len(features)) / 3
    return Rows(features, (signal > 0) * 1.0)


def common_bins() -> Bins:
    """The same for all, from nobody's rows."""
    return agree(Solo(), np.random.default_rng(0).normal(size=(500, 4)), "wxyz", max_bin=15)


def trained(channel: Channel, trees: int) -> str:
    """The consortium's model."""
    rows = rows_of(channel.name)
    return grow(channel, rows, begin(channel, rows, common_bins(), CONFIG), CONFIG, trees).text


class Troubled:
    """A channel whose participant gets into trouble before its sum number `at`."""

    def __init__(self, channel: Channel, trouble: str, at: int) -> None:
        self.channel, self.trouble, self.left = channel, trouble, at
        self.name, self.cohort = channel.name, channel.cohort

    def sum(self, name: str, vector: Any, form: FixedPoint, part: slice | None = None) -> Any:
        """See `Channel.sum`."""
        self.left -= 1
        if self.left == 0:
            _trouble(self.trouble)
        return self.channel.sum(name, vector, form, part)

    def read(self, name: str) -> Any:
        """See `Channel.read`."""
        return self.channel.read(name)


def _trouble(kind: str) -> None:
    if kind == "raise":
        raise KeyError("alice@example.org")
    if kind == "late":
        time.sleep(600)
    os.kill(os.getpid(), {"die": signal.SIGKILL, "stop": signal.SIGSTOP}[kind])


def grow_trees(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """The model's text; the error that breaks it off is told in the file `told`."""
    once = arguments.get("once")
    if "trouble" in arguments and not (once and Path(once).exists()):
        if once:
            Path(once).touch()
        channel = Troubled(channel, arguments["trouble"], arguments["at"])
    try:
        return {"text": trained(channel, arguments["trees"]), "pid": os.getpid()}
    except ChorusError as error:
        Path(arguments["told"]).write_text(f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--policy", type=json.loads, default={})
    parser.add_argument("--fd", type=int, required=True)
    options = parser.parse_args()
    jobs = {"grow_trees": grow_trees}
    serve(
        socket.socket(fileno=options.fd),
        options.name,
        jobs,
        RoundPolicy(**options.policy),
        alike=lambda job, arguments: arguments["trees"],
    )
