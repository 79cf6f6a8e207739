"""The training records come from batches that their suppliers signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from assay.gate.verdict import Case, Finding, Severity, require_share

__all__ = ["UnsignedBatches"]


@dataclass(frozen=True, kw_only=True)
class UnsignedBatches:
    """At most the share ``value`` of the training records comes from batches without a supplier's signature.

    Counted from the manifest that the evidence names, as the ledger has it: a number, not an estimate.

    Example:
        {rule: unsigned_batches, value: 0}

    Fields:
        value: the greatest share; 0 for none at all.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    reads_holdout: ClassVar[bool] = False
    value: float = 0.0
    severity: Severity = "required"

    def __post_init__(self) -> None:
        require_share("unsigned_batches: value", self.value)

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        about, need = "training records of unsigned batches", f"<= {self.value:g}"
        shares = case.training[0].history.sources if case.training else ()
        total = sum(share.records for share in shares)
        if total < 1:
            note = "the ledger does not say which batches the model learned from"
            return Finding(verdict="not_measured", about=about, need=need, note=note)
        unsigned = sum(share.records for share in shares if not share.uploader)
        note = f"{unsigned} of {total} records"
        return Finding(
            verdict="holds" if unsigned <= self.value * total else "misses", about=about, need=need, note=note
        )
