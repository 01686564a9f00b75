"""Errors as messages between a participant and the coordinator: type and text, never a traceback."""

import os
from itertools import islice
from typing import Any

from federation import errors
from federation.errors import ChorusError, Lost

GRACE = 5.0
"""Seconds that a participant has to take note of an error after the deadline of its work."""

MORE = "its own log says more"
"""Where the text of an error is that others do not see."""

LONGEST = 2_000
"""Characters of a text that are shown; Prefect's server takes minutes for one of millions."""

SHORT, MOST_LOST = 200, 64
"""Characters of each name and reason, and how many of them, where a text says who was lost."""

_KINDS: dict[str, type[ChorusError]] = {
    kind.__name__: kind for kind in (errors.BadInput, errors.Refused, errors.TooFew, ChorusError)
}


def to_message(error: Exception, shown: tuple[type[Exception], ...] = ()) -> dict[str, Any]:
    """`error` as JSON.

    Texts of Chorus' own errors are written for other eyes, and so is what those of the types `shown`
    have as `told`; of all others only the kind is told, since a text may quote data.
    """
    if isinstance(error, Lost):
        return {"type": "Lost", "participants": error.participants}
    if isinstance(error, ChorusError):
        kind = next(name for name, known in _KINDS.items() if isinstance(error, known))
        return {"type": kind, "message": str(error)}
    if isinstance(error, shown):
        told = getattr(error, "told", str(error))
        message = told if told == str(error) else f"{told} ({MORE})"
        # A file's name may have bytes that are no text.
        return {"type": "BadInput", "message": message.encode(errors="backslashreplace").decode()}
    what = type(error).__name__
    if type(error) is OSError and error.errno:  # as for a full disk; the others have a name of their own
        what = os.strerror(error.errno)
    return {"type": "ChorusError", "message": f"{what} ({MORE})"}


def from_message(message: Any, teller: str = "") -> ChorusError:
    """The error that `to_message` was given; an unknown one for whatever else a participant may say.

    Where a `teller` is given its text begins with that name.
    """
    told = message if isinstance(message, dict) else {}
    lost = told.get("participants")
    if told.get("type") == "Lost" and isinstance(lost, dict):
        first = islice(lost.items(), MOST_LOST)
        return Lost({_line(name, SHORT): _line(why, SHORT) for name, why in first})
    begin = f"{teller}: " if teller else ""
    text = _line(told.get("message", "unknown error")).removeprefix(begin)
    return _KINDS.get(str(told.get("type")), ChorusError)(begin + text)


def _line(text: object, longest: int = LONGEST) -> str:
    """What goes into logs and tables of a text that somebody else wrote: one line, cut where it is long."""
    line = (each if each.isprintable() else ascii(each)[1:-1] for each in str(text)[:longest])
    return "".join(line)[:longest]
