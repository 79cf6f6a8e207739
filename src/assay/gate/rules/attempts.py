"""The hold-out still has budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from assay.gate.verdict import Case, Finding, Severity

EXHAUSTED = "holdout_exhausted"

__all__ = ["EXHAUSTED", "Attempts"]


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """The measurement is not beyond the policy's number of ``attempts`` on its hold-out. Applies always.

    Each attempt needs a higher confidence than the one before, so that all of them together are wrong no more often
    than the policy says. Beyond the last one the answer is ``holdout_exhausted``, whatever was measured.

    Example:
        {rule: attempts}

    Fields:
        severity: always ``required``.
    """

    reads_holdout: ClassVar[bool] = False
    severity: Severity = "required"

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        about, need = "attempts on this hold-out", f"<= {case.policy.attempts}"
        told = f"attempt {case.attempt}, at which intervals need confidence {case.confidence:.6g}"
        if not case.attempt <= case.policy.attempts:
            note = f"{EXHAUSTED}: {told}; deliver new trusted records"
            return Finding(verdict="not_measured", about=about, need=need, note=note)
        return Finding(verdict="holds", about=about, need=need, note=told)
