"""A file is put in place in one step: who reads it meanwhile, or after a kill, finds the old or the new."""

import os
from pathlib import Path


def replace(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Put `content` at `path`, with the permissions `mode` less what the process masks."""
    beside = path.with_name(path.name + ".tmp")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    os.replace(beside, path)
