"""Stated certainties come true about as often as they say."""

from __future__ import annotations

from dataclasses import dataclass

from assay.gate.verdict import Case, Finding, Severity, estimate_name, require_finite, stay

__all__ = ["Calibration"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the model says of its own certainty is off by at most ``value``: expected calibration error.

    Reads ``calibration_error``, whose interval must have the confidence that the attempt asks for: it cannot be made
    again from two integers. Measure it with more confidence than the policy's.

    Reference: Guo et al., On Calibration of Modern Neural Networks. ICML 2017. arXiv:1706.04599.

    Example:
        {rule: calibration, value: 0.1}

    Fields:
        value: the bar that the high end has to stay at or below.
        threat: ``norm:epsilon`` for the error under attack; empty for none.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    value: float
    threat: str = ""
    severity: Severity = "required"

    def __post_init__(self) -> None:
        require_finite("calibration: value", self.value)
        estimate_name("calibration_error", self.threat)

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        return stay(case, estimate_name("calibration_error", self.threat), self.value)
