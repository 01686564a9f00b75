"""Whether enough participants are left for a round to be worth it, and to be opened at all."""

from collections.abc import Collection, Mapping

from federation.errors import TooFew, reasons
from tasks.run import Run


def require_quorum(run: Run, step: str, present: Collection[str], lost: Mapping[str, str]) -> None:
    """Raise `TooFew`, with who is missing and why, where fewer are present than the policy needs."""
    needed = run.policy.needed(len(run.doors))
    if len(present) < needed:
        raise TooFew(
            f"{step}: needs {needed} of {len(run.doors)} participants, found {len(present)} "
            f"({', '.join(sorted(present)) or 'nobody'}); missing: {reasons(lost)}"
        )
