"""The program that is a participant: `python -m tasks.participant HOME --fd N`.

It reads its own part of the consortium from HOME, and answers the coordinator through the connection
that it was given; all that it writes is readable by its owner only.
"""

import argparse
import os
import socket
import sys
from functools import partial
from pathlib import Path

from feature_store.errors import BadData
from federation.participant import serve


def main() -> None:
    """Serve until the connection closes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--fd", type=int, required=True)
    given = parser.parse_args()
    os.umask(0o077)
    # Python's own way to say that a module is not there: LightGBM imports it, where it is, for classes that
    # nothing here uses, which takes half of the start and 40 MB each.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    from tasks.jobs import JOBS
    from tasks.membership import Membership
    from tasks.room import Room

    membership = Membership.model_validate_json((given.home / "membership.json").read_text())
    room = Room(given.home, membership)
    jobs = {name: partial(job, room) for name, job in JOBS.items()}
    serve(
        socket.socket(fileno=given.fd),
        membership.name,
        jobs,
        membership.rounds,
        log=given.home / "participant.log",
        shown=(BadData,),
        memory=given.home / "work",
    )


if __name__ == "__main__":
    main()
