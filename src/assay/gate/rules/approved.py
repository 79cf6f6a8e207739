"""Enough of the people the policy names agree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from assay.errors import UnfitInput
from assay.gate.verdict import Case, Finding, Severity

_KEYID = re.compile(r"[0-9a-f]{64}")

__all__ = ["Approved"]


@dataclass(frozen=True, kw_only=True)
class Approved:
    """Signed approvals of exactly this evidence, model, policy and target by ``count`` of the keys in ``by``.

    Until they are there it is not measured, and the decision inconclusive: nothing waits. ``assay approve DECISION``
    adds one; the gate, run again on the same evidence, counts those that are valid, distinct, not expired and not
    revoked. A policy that asks for nothing else is an error: no approval makes up for a measurement.

    Example:
        {rule: approved, count: 1, by: ["0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]}

    Fields:
        by: ids of the keys that count, each with the role approver and neither evaluator nor promoter.
        count: how many of them.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    reads_holdout: ClassVar[bool] = False
    by: tuple[str, ...]
    count: int = 1
    severity: Severity = "required"

    def __post_init__(self) -> None:
        if not all(_KEYID.fullmatch(key) for key in self.by) or len(set(self.by)) != len(self.by):
            raise UnfitInput("approved: by", f"{list(self.by)}"[:200], "ids of keys, 64 hexadecimal digits, each once")
        if not 1 <= self.count <= len(self.by):
            raise UnfitInput("approved: count", f"{self.count} of {len(self.by)}", "1 or more, and no more than in by")

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        about, need = "approvals", f">= {self.count} of {', '.join(key[:8] for key in self.by)}"
        given = sorted({one.key for one in case.approvals if not one.fault} & set(self.by))
        told = f"approved by {', '.join(key[:8] for key in given)}" if given else "nobody approved yet"
        if len(given) >= self.count:
            return Finding(verdict="holds", about=about, need=need, note=told)
        faults = "".join(f"; one does not count: {one.fault}" for one in case.approvals if one.fault)
        note = f"waiting for {self.count - len(given)} more, by assay approve: {told}{faults}"
        return Finding(verdict="not_measured", about=about, need=need, note=note)
