"""The evidence is not too old."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from assay.gate.verdict import Case, Finding, Severity

LEEWAY = timedelta(minutes=5)

__all__ = ["Freshness"]


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """The measurement ended less than the policy's ``valid_for_s`` ago. Applies always.

    Old evidence, evidence without an instant, and evidence from more than five minutes in the future is not measured.

    Example:
        {rule: freshness}

    Fields:
        severity: always ``required``.
    """

    reads_holdout: ClassVar[bool] = False
    severity: Severity = "required"

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        about, need = "age of the evidence", f"< {_spoken(case.policy.valid_for_s)}"
        measured = case.evidence.measured_at
        if measured is None:
            return Finding(verdict="not_measured", about=about, need=need, note="the evidence names no instant")
        if not measured - LEEWAY <= case.now:
            return Finding(verdict="not_measured", about=about, need=need, note="it is from the future; mend the clock")
        if not case.now < measured + timedelta(seconds=case.policy.valid_for_s):
            return Finding(verdict="not_measured", about=about, need=need, note="it expired; evaluate the model again")
        return Finding(verdict="holds", about=about, need=need)


def _spoken(seconds: int) -> str:
    """A time in the largest unit that gives a whole number."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
