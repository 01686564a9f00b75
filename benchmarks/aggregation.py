"""The sum of masked updates against the machine's memory-copy limit for the same bytes.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/aggregation.py [--participants 10] [--length 10000000]

Prints what a participant does in GB/s a core (of its float64 vector for the fixed point, of words for the
masks), and the seconds of the relay's sum, of a plain copy of the same bytes, and of flwr's `aggregate()`
on float32 (flwr itself where it is installed, otherwise its arithmetic, written out in numpy).
"""

import argparse
import platform
import threading
import time
from collections.abc import Callable
from functools import reduce

import numpy as np

from federation.fixed_point import FixedPoint, Words
from federation.masks import KeyPair, Masks
from federation.plan import RoundPlan
from federation.relay import Header, Relay
from federation.update import Update

try:
    from flwr.server.strategy.aggregate import aggregate as flwr_aggregate

    FLWR = "flwr aggregate(), float32"
except ImportError:
    FLWR = "the arithmetic of flwr's aggregate(), float32"

    def flwr_aggregate(results: list[tuple[list[np.ndarray], int]]) -> list[np.ndarray]:
        """The weighted mean as flwr 1.x computes it: every layer times its weight, added, divided."""
        total = sum(examples for _, examples in results)
        weighted = [[layer * examples for layer in weights] for weights, examples in results]
        return [reduce(np.add, updates) / total for updates in zip(*weighted, strict=True)]


def seconds(work: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--participants", type=int, default=10)
    parser.add_argument("--length", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=5)
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
    floats = [([vector.astype(np.float32)], 1) for _ in names]
    averaging = seconds(lambda: flwr_aggregate(floats), options.repeat)

    streams, rate = len(names) - 1, words.nbytes / masking / 1e9
    print(f"{platform.machine()}, CPython {platform.python_version()}, numpy {np.__version__}")
    print(f"{len(names)} participants, {options.length:,} parameters, words of {form.width} bits")
    rows = [
        ("fixed point, encode", encoding, f"{vector.nbytes / encoding / 1e9:.2f} GB/s of float64"),
        ("fixed point, decode", decoding, f"{vector.nbytes / decoding / 1e9:.2f} GB/s of float64"),
        (
            f"masks of {streams} pairs",
            masking,
            f"{rate:.2f} GB/s of words, {streams * rate:.2f} of keystream",
        ),
        ("copy of all terms", copying, f"{len(names) * words.nbytes / copying / 1e9:.2f} GB/s"),
        ("sum of all terms, relay", summing, f"{summing / copying:.2f} x copy"),
        (FLWR, averaging, f"{averaging / summing:.2f} x the relay"),
    ]
    for what, took, remark in rows:
        print(f"{what:48} {took * 1e3:9.1f} ms   {remark}")


if __name__ == "__main__":
    main()
