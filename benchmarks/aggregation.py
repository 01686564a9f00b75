"""The sum of masked updates against the machine's memory-copy limit for the same bytes.

    python3.11 -m venv /tmp/flwr && /tmp/flwr/bin/pip install flwr
    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/aggregation.py --flwr-python /tmp/flwr/bin/python

Prints what a participant does in GB/s a core (of its float64 vector for the fixed point, of words for the
masks), and the seconds of the relay's sum, of a plain copy of the same bytes, and of flwr's `aggregate()`
on float32: flwr's own, in the given Python, or its arithmetic written out in numpy where there is none.
"""

import argparse
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from federation.fixed_point import FixedPoint, Words
from federation.masks import KeyPair, Masks
from federation.plan import RoundPlan
from federation.relay import Header, Relay
from federation.update import Update

FLWR = """
import sys, time
from functools import reduce
import numpy as np

participants, length, repeat = map(int, sys.argv[1:])
try:
    import flwr
    from flwr.server.strategy.aggregate import aggregate
    name = "flwr " + flwr.__version__ + " aggregate(), float32"
except ImportError:
    name = "arithmetic of flwr's aggregate(), no flwr there"

    def aggregate(results):
        total = sum(examples for _, examples in results)
        weighted = [[layer * examples for layer in weights] for weights, examples in results]
        return [reduce(np.add, updates) / total for updates in zip(*weighted, strict=True)]

vector = np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32)
results = [([vector.copy()], 1) for _ in range(participants)]
times = []
for _ in range(repeat):
    began = time.perf_counter(), time.process_time()
    (mean,) = aggregate(results)
    times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
assert np.allclose(mean, vector, atol=1e-5)
print(name, *map(min, zip(*times)), sep="|")
"""


class Seconds(NamedTuple):
    """The least of several measurements; a busy machine spoils `wall` first."""

    wall: float
    processor: float


def flwr(python: str, participants: int, length: int, repeat: int) -> tuple[str, Seconds]:
    """What was measured in `python`, and its seconds."""
    command = [python, "-c", FLWR, *map(str, (participants, length, repeat))]
    name, *took = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("|")
    return name, Seconds(*map(float, took))


def seconds(work: Callable[[], object], repeat: int) -> Seconds:
    times = []
    for _ in range(repeat):
        began = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return Seconds(*map(min, zip(*times, strict=True)))


def summed(plan: RoundPlan, form: FixedPoint, terms: dict[str, Words]) -> Update:
    """The relay's sum, each participant in a thread of its own, in chunks of 1 MiB as off a socket."""
    relay, totals = Relay(plan), []

    def say(name: str) -> None:
        words = terms[name]
        step = (1 << 20) // words.itemsize
        chunks = (words[start : start + step] for start in range(0, words.size, step))
        header = Header(label=plan.label, name="update", form=form, length=words.size)
        totals.append(relay.add(name, header, chunks))

    threads = [threading.Thread(target=say, args=(name,)) for name in terms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return totals[0]


def copied(terms: dict[str, Words], out: Words) -> None:
    for words in terms.values():
        np.copyto(out, words)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--participants", type=int, default=10)
    parser.add_argument("--length", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--flwr-python", default=sys.executable, help="a Python that has flwr installed")
    options = parser.parse_args()
    names = tuple(f"p{number:03}" for number in range(options.participants))
    plan = RoundPlan(run="benchmark", number=0, cohort=names)
    form = FixedPoint(width=32, fraction_bits=20, terms=len(names))
    vector = np.random.default_rng(0).normal(0, 0.1, options.length)

    encoding = seconds(lambda: form.encode(vector), options.repeat)
    words = form.encode(vector)
    decoding = seconds(lambda: form.decode(words), options.repeat)
    pairs = {name: KeyPair() for name in names}
    publics = {name: pair.public for name, pair in pairs.items()}
    masks = {name: Masks(name, pairs[name], publics, plan) for name in names}
    terms = {name: masks[name].apply(words) for name in names}
    masking = seconds(lambda: masks[names[0]].apply(words), min(2, options.repeat))
    expected = words * words.dtype.type(len(names))
    assert np.array_equal(summed(plan, form, terms).words, expected), "the masks did not cancel"

    out = np.empty_like(words)
    copying = seconds(lambda: copied(terms, out), options.repeat)
    summing = seconds(lambda: summed(plan, form, terms), options.repeat)
    measured, averaging = flwr(options.flwr_python, len(names), options.length, options.repeat)

    streams, rate = len(names) - 1, words.nbytes / masking.processor / 1e9
    print(f"{platform.machine()}, CPython {platform.python_version()}, numpy {np.__version__}", end="")
    print(
        f", load {os.getloadavg()[0]:.1f}; GB/s and ratios are of processor seconds, (ratios of wall seconds)"
    )
    print(f"{len(names)} participants, {options.length:,} parameters, words of {form.width} bits")
    rows = [
        ("fixed point, encode", encoding, f"{vector.nbytes / encoding.processor / 1e9:.2f} GB/s of float64"),
        ("fixed point, decode", decoding, f"{vector.nbytes / decoding.processor / 1e9:.2f} GB/s of float64"),
        (
            f"masks of {streams} pairs",
            masking,
            f"{rate:.2f} GB/s of words, {streams * rate:.2f} of keystream",
        ),
        ("copy of all terms", copying, f"{len(names) * words.nbytes / copying.processor / 1e9:.2f} GB/s"),
        ("sum of all terms, relay", summing, f"{_ratio(summing, copying)} x copy"),
        (measured, averaging, f"{_ratio(averaging, summing)} x the relay"),
    ]
    for what, took, remark in rows:
        print(f"{what:40} {took.wall * 1e3:8.1f} ms, processor {took.processor * 1e3:8.1f} ms   {remark}")


def _ratio(one: Seconds, other: Seconds) -> str:
    return f"{one.processor / other.processor:.2f} ({one.wall / other.wall:.2f})"


if __name__ == "__main__":
    main()
