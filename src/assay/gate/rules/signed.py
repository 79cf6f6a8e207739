"""The evidence is signed by somebody the policy accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from assay.gate.verdict import Case, Finding, Severity

__all__ = ["Signed"]


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A key with the role evaluator signed the evidence, and one is here to sign the decision. Applies always.

    Unsigned evidence is not measured. A key of assurance ``local`` misses where the policy refuses such keys.

    Example:
        {rule: signed}

    Fields:
        severity: always ``required``.
    """

    reads_holdout: ClassVar[bool] = False
    severity: Severity = "required"

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        about, need = "signature", "by a key with the role evaluator"
        if not case.signed:
            note = "the evidence carries no signature, or no key is here to sign the decision; assay init makes one"
            return Finding(verdict="not_measured", about=about, need=need, note=note)
        if case.assurance != "managed" and not case.policy.accept_local_keys:
            note = "the key is of assurance local, which this policy refuses"
            return Finding(verdict="misses", about=about, need=need, note=note)
        return Finding(verdict="holds", about=about, need=need, note=f"assurance {case.assurance}")
