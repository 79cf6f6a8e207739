"""An estimate reaches a bar."""

from __future__ import annotations

from dataclasses import dataclass

from assay.gate.verdict import Case, Finding, Severity, estimate_name, more_records, require_finite, weigh

__all__ = ["AtLeast"]


@dataclass(frozen=True, kw_only=True)
class AtLeast:
    """The true value is at least ``value``: holds when low >= value, misses when high < value, else unclear.

    A model whose true value is below the bar passes only when its interval lies wholly above its true value: at most
    in half of one minus the confidence, 2.5 % of measurements at 95 %.

    Fields:
        estimate: its name, such as ``clean_accuracy``.
        value: the bar that the low end has to reach.
        threat: ``norm:epsilon`` for an estimate under attack, such as ``linf:8/255``; evidence for another threat
            never answers. Empty for none.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    estimate: str
    value: float
    threat: str = ""
    severity: Severity = "required"

    def __post_init__(self) -> None:
        require_finite("at_least: value", self.value)
        estimate_name(self.estimate, self.threat)

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        return weigh(
            case,
            estimate_name(self.estimate, self.threat),
            f">= {self.value:g}",
            self.value,
            holds=lambda found: found.low >= self.value,
            misses=lambda found: found.high < self.value,
            settling=lambda found: more_records(found, self.value),
        )
