"""Replays of update frequency: xmarket by weeks, MovieTweetings by days, generated worlds by days.

MovieTweetings is cut into four organisations by a hash of the user; its catalogue is films with five ratings.
"""

import argparse
import tempfile
from collections import Counter
from datetime import datetime
from pathlib import Path

import yaml

from flows import replay

TURN = {
    "shops": 3, "users": 8000, "items": 500, "days": 400, "events": 480_000,
    "drift": "sudden", "turn": 1.0, "turn_at": 0.6, "new_items": 0.05,
}  # fmt: skip
"""A calm world with few new items, whose tastes and popularity become others within a day."""

EXAMPLES = Path(__file__).parents[1] / "examples"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("set", choices=["xmarket", "movietweetings", "sudden", "slow", "turn"])
    options.add_argument("--data", type=Path, help="folder of the real sets")
    options.add_argument("--kind", default="item_to_item", choices=["item_to_item", "popularity"])
    options.add_argument("--seed", type=int, default=0, help="of a generated world")
    options.add_argument("--json", type=Path)
    options.add_argument("--plot", type=Path)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "consortium.yaml"
        path.write_text(yaml.safe_dump(consortium(asked, Path(scratch))))
        data = asked.data and (asked.data / "xmarket" if asked.set == "xmarket" else asked.data)
        begin = datetime(2014, 10, 23) if asked.set == "xmarket" else None
        days = 7 if asked.set == "xmarket" else 1
        replay.start(path, data, asked.json, asked.plot, days, begin, None)


def consortium(asked: argparse.Namespace, scratch: Path) -> dict:
    example = {"xmarket": "xmarket", "movietweetings": "movielens"}.get(asked.set, "demo")
    told = yaml.safe_load((EXAMPLES / f"{example}.yaml").read_text())
    for each in told["participants"]:
        each.pop("reachable", None)
    told |= {"name": asked.set, "state": str(scratch), "model": {"kind": asked.kind}}
    if asked.set == "movietweetings":
        told["participants"] = told["participants"][1:]
        told["catalogue"] = str(films(asked.data / "movietweetings" / "ratings.dat", scratch))
    elif asked.set == "turn":
        told["world"] = {**TURN, "seed": asked.seed}
        told["participants"] = told["participants"][:3]
    elif example == "demo":
        told["world"] |= {"drift": asked.set, "seed": asked.seed}
    return told


def films(ratings: Path, scratch: Path) -> Path:
    """The films with five ratings or more, as a catalogue."""
    counts = Counter(line.split("::")[1] for line in ratings.read_text().splitlines())
    path = scratch / "films.txt"
    path.write_text("".join(f"{film}\n" for film in sorted(counts) if counts[film] >= 5))
    return path


if __name__ == "__main__":
    main()
