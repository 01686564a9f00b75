"""EASE over a large catalogue, one solve on one core: seconds of each step and peak memory of the process.

    .venv/bin/python benchmarks/item_to_item.py --items 30000

The participant holds its own X'X and the total, mixes and solves; time grows with the cube of the items,
memory with their square.
"""

import argparse
import os
import platform
import resource
import time

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import scipy

from recommenders.interactions import Interactions
from recommenders.item_to_item import invert, memory_needed, own_gram, shared_gram, weights


def shop(items: int, users: int, events: int) -> Interactions:
    """Random users over items of Zipf-like popularity."""
    rng = np.random.default_rng(0)
    who = rng.integers(0, users, events).astype(np.int32)
    what = (items * rng.random(events) ** 2).astype(np.int32)
    return Interactions(who, what, np.arange(events), users, items)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}", end="")
    print(f", scipy {scipy.__version__}, load {os.getloadavg()[0]:.1f}")
    data, clock = shop(options.items, options.users, options.events), [(time.perf_counter(), os.times())]
    steps = []

    def done(step: str) -> None:
        clock.append((time.perf_counter(), os.times()))
        (began, before), (ended, after) = clock[-2:]
        steps.append((step, ended - began, after.user + after.system - before.user - before.system))

    own = own_gram(data, np.arange(options.items, dtype=np.int32))
    total = own.astype(np.uint32)
    total *= 3
    done("own X'X")
    mixed = shared_gram(own, total, 0.1)
    done("own and a share of the others'")
    inverse = invert(mixed, 50.0, in_place=True)
    done("factor and invert, in place")
    assert np.shares_memory(inverse, mixed)
    found = weights(inverse)
    done("weights")
    assert np.isfinite(found).all()
    for step, wall, used in steps:
        print(f"  {step:32} {wall:8.1f} s, processor {used:8.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    needed = memory_needed(options.items) / 2**30
    print(f"{options.items:,} items: peak {peak:.2f} GiB ({needed:.2f} of matrices as foreseen)")


if __name__ == "__main__":
    main()
