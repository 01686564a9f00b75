"""The program that is a participant: `python -m tasks.participant HOME --fd N`.

It reads its own part of the consortium from HOME, and answers the coordinator through the connection
that it was given (with `--tls`: to another machine); all that it writes is readable by its owner only.
"""

import argparse
import os
import socket
import sys
from functools import partial
from pathlib import Path

from feature_store.errors import BadData
from federation.errors import ChorusError
from federation.joining import welcomed
from federation.participant import serve


def main() -> None:
    """Serve until the connection closes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--tls", action="store_true")
    given = parser.parse_args()
    os.umask(0o077)
    # Python's own way to say that a module is not there: LightGBM imports it, where it is, for classes that
    # nothing here uses, which takes half of the start and 40 MB each.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    from tasks.following import follow
    from tasks.jobs import JOBS, LOCAL
    from tasks.joining import identity_of
    from tasks.membership import Membership
    from tasks.room import Room

    membership = Membership.model_validate_json((given.home / "membership.json").read_text())
    room = Room(given.home, membership)
    connection, keyring = socket.socket(fileno=given.fd), None
    if given.tls:
        try:
            tls, coordinator, keyring = identity_of(given.home, membership)
            connection = welcomed(connection, tls, coordinator)
        except ChorusError as error:
            print(f"chorus: {membership.name}: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
    serve(
        connection,
        membership.name,
        {name: partial(follow, room, job) for name, job in JOBS.items() if not (given.tls and name in LOCAL)},
        membership.rounds,
        log=given.home / "participant.log",
        shown=(BadData,),
        memory=given.home / "work",
        keyring=keyring,
    )


if __name__ == "__main__":
    main()
