"""What can go wrong between organisations, each with the exit code that scripts see."""

from collections.abc import Mapping


class ChorusError(Exception):
    """Something that the person at the keyboard can act on; shown without a traceback."""

    exit_code = 1


class BadInput(ChorusError):
    """A file, key, column or value that is not what it should be; the message says what was expected."""

    exit_code = 2


class Refused(ChorusError):
    """A contribution or a plan that the policy of a participant or of the aggregator does not let pass."""

    exit_code = 3


class TooFew(ChorusError):
    """Fewer participants than the quorum, or than the minimum whose sum may be opened."""

    exit_code = 4


class NothingNew(ChorusError):
    """There is nothing to learn that an earlier training has not learned: no failure, only an early end."""


class Lost(ChorusError):
    """A participant went silent, ended, or broke off; `participants` maps each one's name to the reason."""

    exit_code = 5

    def __init__(self, participants: dict[str, str]) -> None:
        self.participants = participants
        super().__init__(reasons(participants))


def reasons(participants: Mapping[str, str]) -> str:
    """Whom what befell, in the order of the names: `east: silent; north: its process ended`."""
    return "; ".join(f"{name}: {why}" for name, why in sorted(participants.items()))


def reason(name: str, error: BaseException) -> str:
    """What befell the participant `name`, by the error that came of it, without the name."""
    if isinstance(error, Lost):
        return error.participants.get(name, str(error))
    return str(error).removeprefix(f"{name}: ") or type(error).__name__
