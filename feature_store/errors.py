"""What can be wrong with the events that somebody hands in."""


class BadData(ValueError):
    """Data that cannot be read or kept; the message names file and column, what was found and expected."""

    exit_code = 2
