"""The program that is a participant: `python -m tasks.participant HOME (--fd N | --join)`.

It reads its own part of the consortium from HOME, and answers the coordinator through the connection
that it was given, or with `--join` makes to another machine; only its owner can read what it writes.
"""

import argparse
import os
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.errors import BadData
from federation.errors import ChorusError
from federation.participant import serve

if TYPE_CHECKING:
    from federation.keyring import Keyring
    from tasks.membership import Membership


def main() -> None:
    """Serve until the connection closes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--fd", type=int)
    way.add_argument("--join", action="store_true")
    given = parser.parse_args()
    os.umask(0o077)
    # Python's own way to say that a module is not there: LightGBM imports it, where it is, for classes that
    # nothing here uses, which takes half of the start and 40 MB each.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    from tasks.following import alike, follow
    from tasks.jobs import offered
    from tasks.membership import Membership
    from tasks.room import Room

    membership = Membership.model_validate_json((given.home / "membership.json").read_text())
    room = Room(given.home, membership)
    if given.join:
        connection, keyring = _connected(given.home, membership)
    else:
        connection, keyring = socket.socket(fileno=given.fd), None
    serve(
        connection,
        membership.name,
        {name: partial(follow, room, job) for name, job in offered(given.join).items()},
        membership.rounds,
        log=given.home / "participant.log",
        shown=(BadData,),
        memory=given.home / "work",
        keyring=keyring,
        alike=partial(alike, room),
    )


def _connected(home: Path, membership: "Membership") -> "tuple[socket.socket, Keyring]":
    """The connection to a coordinator on another machine, and the keys of all who connect to it."""
    from tasks.joining import connected

    try:
        return connected(home, membership)
    except ChorusError as error:
        print(f"chorus: {membership.name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
