"""An estimate stays below a bar."""

from __future__ import annotations

from dataclasses import dataclass

from assay.gate.verdict import Case, Finding, Severity, estimate_name, require_bar, stay

__all__ = ["AtMost"]


@dataclass(frozen=True, kw_only=True)
class AtMost:
    """The true value is at most ``value``: holds when high <= value, misses when low > value, else unclear.

    Example:
        {rule: at_most, estimate: backdoor_success, value: 0.05}

    Fields:
        estimate: its name, such as ``backdoor_success``.
        value: the bar that the high end has to stay below or at.
        threat: ``norm:epsilon`` for an estimate under attack; empty for none.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    estimate: str
    value: float
    threat: str = ""
    severity: Severity = "required"

    def __post_init__(self) -> None:
        require_bar("at_most: value", self.estimate, self.value)
        estimate_name(self.estimate, self.threat)

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        return stay(case, estimate_name(self.estimate, self.threat), self.value)
