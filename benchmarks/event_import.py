"""Import of generated events: events a second through check, clean and write on one core, and peak memory.

    .venv/bin/python benchmarks/event_import.py --events 2000000
    .venv/bin/python benchmarks/event_import.py --events 100000000 --formats csv --folder /large/disk

Each import runs in a process of its own with one thread, so that its peak resident memory is its own.
One event in fifty repeats an earlier one; --shuffled puts the events in random order, the hard case.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

CHUNK = 1_000_000
BAR = 400_000


def generate(path: Path, events: int, shuffled: bool) -> None:
    """Two years of events in seconds, `events` / 50 users, 30,000 items of Zipf-like popularity."""
    rng = np.random.default_rng(0)
    begin, end = 1_672_531_200, 1_735_689_600
    writer = None
    for first in range(0, events, CHUNK):
        rows = min(CHUNK, events - first)
        span = (
            (begin, end)
            if shuffled
            else tuple(begin + (end - begin) * np.array([first, first + rows]) / events)
        )
        times = rng.integers(int(span[0]), int(span[1]), rows)
        times = times if shuffled else np.sort(times)
        users = rng.integers(0, max(events // 50, 10), rows)
        items = (30_000 * rng.random(rows) ** 3).astype(np.int64)
        values = rng.integers(1, 6, rows)
        repeats = rng.integers(0, rows - 1, rows // 50)  # each becomes its predecessor once more
        for column in (times, users, items, values):
            column[repeats + 1] = column[repeats]
        table = pa.table(
            {
                "user_id": pa.array(np.char.add("user-", users.astype("U10"))),
                "item_id": pa.array(np.char.add("B00", (items + 1_000_000).astype("U7"))),
                "rating": values.astype(np.float64),
                "timestamp": times,
            }
        )
        if writer is None:
            kind = pyarrow.csv.CSVWriter if path.suffix == ".csv" else pq.ParquetWriter
            writer = kind(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def measure(path: Path, root: Path) -> dict[str, float]:
    """Import `path`; seconds, events a second, peak MB of this process."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    from feature_store.importing import import_events
    from feature_store.partitions import Store
    from feature_store.sources import Columns, Source

    columns = Columns(user="user_id", item="item_id", value="rating", time="timestamp")
    began = time.perf_counter(), time.process_time()
    done = import_events(Store(root), "shop", Source(path=str(path), columns=columns, time_unit="s"))
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    return {
        "rows_read": done.report.rows_read,
        "kept": done.report.kept,
        "seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "events_a_second": round(done.report.rows_read / wall),
        "events_a_core_second": round(done.report.rows_read / cpu),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "stored_bytes_an_event": round(
            sum(part.stat().st_size for part in root.rglob("*.parquet")) / done.report.kept, 1
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--formats", nargs="+", default=["csv", "parquet"])
    parser.add_argument("--shuffled", action="store_true", help="events in random order of time")
    parser.add_argument(
        "--folder", type=Path, help="where the files go (about 45 bytes an event, three times)"
    )
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    print(f"{platform.machine()}, Python {platform.python_version()}, pyarrow {pa.__version__}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for kind in options.formats:
            path = Path(folder) / f"events.{kind}"
            generate(path, options.events, options.shuffled)
            command = [sys.executable, __file__, "--one", str(path), str(Path(folder) / kind)]
            found = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
            figures = json.loads(found.stdout)
            verdict = "reached" if figures["events_a_core_second"] >= BAR else "MISSED"
            print(f"{kind}, {path.stat().st_size / 1e6:.0f} MB: bar of {BAR} events a core second {verdict}")
            print(json.dumps(figures, indent=1))
            path.unlink()


if __name__ == "__main__":
    main()
