"""Seconds until the command line answers: `import flows.cli` and `chorus --help`, each in a fresh process.

    .venv/bin/python benchmarks/startup.py [--repeat 9]

Of each the fastest and the median wall time, and the processor time of the fastest; a bare interpreter
beside them.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time

BAR = 0.5
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import flows.cli": ["-c", "import flows.cli"],
    "chorus --help": ["-m", "flows.cli", "--help"],
}


def measure(arguments: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of one process."""
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    took, after = time.perf_counter() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return took, used


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}")
    for name, arguments in COMMANDS.items():
        times = [measure(arguments) for _ in range(options.repeat + 1)][1:]
        best, middle = min(times), statistics.median(wall for wall, _ in times)
        verdict = "reached" if best[0] < BAR else "MISSED"
        print(f"{name:18} {best[0]:.2f} s (median {middle:.2f}, processor {best[1]:.2f}); {BAR} s {verdict}")


if __name__ == "__main__":
    main()
