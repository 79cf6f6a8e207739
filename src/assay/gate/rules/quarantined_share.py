"""Not too much was taken out of the training records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Literal

from assay.gate.verdict import Case, Finding, Severity, require_share

__all__ = ["QuarantinedShare"]


@dataclass(frozen=True, kw_only=True)
class QuarantinedShare:
    """Sanitize and filter took out at most the share ``value`` of what was delivered, in all or of every source.

    Much of one source taken out is an attack on the data, or on the filter; both want a person. Counted from the
    manifests of the training records and their ancestors, as the ledger has them: a number, not an estimate.

    Example:
        {rule: quarantined_share, per: source, value: 0.2}

    Fields:
        value: the greatest share.
        per: ``source`` for every source by itself, ``total`` for all together.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    reads_holdout: ClassVar[bool] = False
    value: float
    per: Literal["source", "total"] = "source"
    severity: Severity = "required"

    def __post_init__(self) -> None:
        require_share("quarantined_share: value", self.value)

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        about, need = f"records taken out, per {self.per}", f"<= {self.value:g}"
        kept, removed = self._counts(case)
        if not kept + removed:
            note = "the ledger does not say what the model learned from, or what was taken out"
            return Finding(verdict="not_measured", about=about, need=need, note=note)
        shares = {source: removed[source] / (kept[source] + removed[source]) for source in kept + removed}
        source = max(sorted(shares), key=lambda name: shares[name])
        note = f"{removed[source]} of {kept[source] + removed[source]} of {source or 'all'}"
        holds = shares[source] <= self.value
        return Finding(verdict="holds" if holds else "misses", about=about, need=need, note=note)

    def _counts(self, case: Case) -> tuple[Counter[str], Counter[str]]:
        """Records kept and taken out, by source; under an empty name for all together."""
        kept: Counter[str] = Counter()
        removed: Counter[str] = Counter()
        for share in case.training[0].history.sources if case.training else ():
            kept[share.source if self.per == "source" else ""] += share.records
        for manifest in case.training:
            for source, reasons in manifest.history.removed.items():
                removed[source if self.per == "source" else ""] += sum(reasons.values())
        return kept, removed
