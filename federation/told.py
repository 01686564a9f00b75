"""What a participant is told, as a digest: all of a cohort were told the same if theirs are the same."""

import hashlib
import json
from typing import Any

DIGEST = 32
"""Bytes of a digest."""


def digest(told: Any) -> bytes:
    """SHA-256 of `told`, which came as JSON, in one form."""
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).digest()
