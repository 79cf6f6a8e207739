"""An estimate reaches a bar."""

from __future__ import annotations

from dataclasses import dataclass

from assay.gate.verdict import Case, Finding, Severity, estimate_name, reach, require_bar

__all__ = ["AtLeast"]


@dataclass(frozen=True, kw_only=True)
class AtLeast:
    """The true value is at least ``value``: holds when low >= value, misses when high < value, else unclear.

    A model whose true value is below the bar passes only when its interval lies wholly above its true value: at most
    in half of one minus the confidence, 2.5 % of measurements at 95 %.

    Example:
        {rule: at_least, estimate: robust_accuracy, threat: "linf:8/255", value: 0.4}

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
        require_bar("at_least: value", self.estimate, self.value)
        estimate_name(self.estimate, self.threat)

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        return reach(case, estimate_name(self.estimate, self.threat), self.value)
