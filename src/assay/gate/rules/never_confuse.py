"""Records of one class are never taken for another."""

from __future__ import annotations

from dataclasses import dataclass, replace

from assay.errors import UnfitInput
from assay.evidence import robust
from assay.gate.verdict import Case, Finding, Severity, require_share, threat_of

__all__ = ["NeverConfuse"]


@dataclass(frozen=True, kw_only=True)
class NeverConfuse:
    """Of the canaries with one label none at all is predicted as another, on enough of them to say so.

    Reads the integers of ``confused[<label>-><predicted>]``, with ``/<canaries>`` behind it for a named set, and behind
    that the key of a targeted threat for confusions that an attack brings about. One confusion misses. None holds where
    the interval's high end is at or below ``value``: 0 of 100 leave 3.6 % possible.

    Example:
        {rule: never_confuse, label: stop, predicted: go, value: 0.02}

    Fields:
        label: the true class.
        predicted: the class it must not be taken for.
        value: the share of confusions that the high end has to stay at or below.
        canaries: name of the set of records; empty for the hold-out.
        threat: ``norm:epsilon`` for confusions under an attack that aims at ``predicted``; empty for none.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    label: str
    predicted: str
    value: float
    canaries: str = ""
    threat: str = ""
    severity: Severity = "required"

    def __post_init__(self) -> None:
        require_share("never_confuse: value", self.value)
        if self.threat:
            threat_of(self.threat)
        if not self.label or not self.predicted or self.label == self.predicted:
            raise UnfitInput("never_confuse", f"{self.label!r} and {self.predicted!r}", "the names of two classes")

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        about = f"confused[{self.label}->{self.predicted}]" + (f"/{self.canaries}" if self.canaries else "")
        if self.threat:
            about = robust(about, replace(threat_of(self.threat), goal="targeted"))
        need, bar = f"<= {self.value:g}, and not one seen", self.value
        found = case.estimate(about)
        if isinstance(found, str):
            return Finding(verdict="not_measured", about=about, need=need, note=found, bar=bar)
        if not isinstance(found.counts.get("successes"), int):
            note = "the evidence does not say how many were confused"
            return Finding(verdict="not_measured", about=about, need=need, note=note, bar=bar)
        if found.counts["successes"] != 0:
            note = f"{found.counts['successes']} were confused"
            return Finding(verdict="misses", about=about, need=need, note=note, estimate=found, bar=bar)
        verdict = "holds" if found.high <= self.value else "unclear"
        note = "" if verdict == "holds" else f"none of {found.n} was confused; more canaries would settle it"
        return Finding(verdict=verdict, about=about, need=need, note=note, estimate=found, bar=bar)  # type: ignore[arg-type]
