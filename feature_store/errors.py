"""What can be wrong with the events that somebody hands in."""


class BadData(ValueError):
    """Data that cannot be read or kept; the message names file and column, what was found and expected.

    `found` quotes the data, its beginning where it is long, and is for its owner's eyes only: `told` is the
    message without it.
    """

    exit_code = 2

    def __init__(self, told: str, found: object = None) -> None:
        self.told = told
        super().__init__(told if found is None else f"{told}; found {str(found)[:500]}")
