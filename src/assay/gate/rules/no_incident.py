"""No open incident speaks of the model or of the records behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from assay.gate.verdict import Case, Finding, Severity

__all__ = ["NoIncident"]


@dataclass(frozen=True, kw_only=True)
class NoIncident:
    """No incident in the ledger names the model, or records that it learned from or was measured on. Applies always.

    Misses where a signed one does; not measured where one that cannot be verified or looked up may. An incident that is
    over is closed by revoking its payload in the keyring.

    Example:
        {rule: no_incident}

    Fields:
        severity: always ``required``.
    """

    reads_holdout: ClassVar[bool] = False
    severity: Severity = "required"

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        about, need = "open incidents", "none about the model or the records behind it"
        proven = [charge.says for charge in case.charges if charge.proven]
        open_questions = [charge.says for charge in case.charges if not charge.proven]
        if proven:
            return Finding(verdict="misses", about=about, need=need, note="; ".join(proven))
        if open_questions:
            return Finding(verdict="not_measured", about=about, need=need, note="; ".join(open_questions))
        return Finding(verdict="holds", about=about, need=need)
