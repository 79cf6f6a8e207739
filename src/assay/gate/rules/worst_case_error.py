"""A regression model stays close in the worst case."""

from __future__ import annotations

from dataclasses import dataclass

from assay.gate.verdict import Case, Finding, Severity, estimate_name, require_finite, stay

__all__ = ["WorstCaseError"]


@dataclass(frozen=True, kw_only=True)
class WorstCaseError:
    """A regression model's mean error at the worst point of the threat is at most ``value``, in units of the label.

    Reads ``worst_case_error``, whose upper end is proven; ``at_most`` reads ``mae`` and ``rmse``, the errors without an
    attack.

    Example:
        {rule: worst_case_error, threat: "linf:0.1", value: 0.5, severity: advisory}

    Fields:
        value: the bar that the high end has to stay at or below.
        threat: ``norm:epsilon`` for the error under attack; empty for none.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    value: float
    threat: str = ""
    severity: Severity = "required"

    def __post_init__(self) -> None:
        require_finite("worst_case_error: value", self.value)
        estimate_name("worst_case_error", self.threat)

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        return stay(case, estimate_name("worst_case_error", self.threat), self.value)
