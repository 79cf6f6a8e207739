"""An estimate stays below a bar."""

from __future__ import annotations

from dataclasses import dataclass

from assay.gate.verdict import Case, Finding, Severity, estimate_name, more_records, require_finite, weigh

__all__ = ["AtMost"]


@dataclass(frozen=True, kw_only=True)
class AtMost:
    """The true value is at most ``value``: holds when high <= value, misses when low > value, else unclear.

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
        require_finite("at_most: value", self.value)
        estimate_name(self.estimate, self.threat)

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        return weigh(
            case,
            estimate_name(self.estimate, self.threat),
            f"<= {self.value:g}",
            self.value,
            holds=lambda found: found.high <= self.value,
            misses=lambda found: found.low > self.value,
            settling=lambda found: more_records(found, self.value, above=False),
        )
