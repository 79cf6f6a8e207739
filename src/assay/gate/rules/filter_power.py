"""The poison filter finds what it is there to find."""

from __future__ import annotations

from dataclasses import dataclass

from assay.gate.verdict import Case, Finding, Severity, reach, require_share

__all__ = ["FilterPower"]


@dataclass(frozen=True, kw_only=True)
class FilterPower:
    """Of backdoors planted for the purpose, the filter finds at least the share ``value``.

    Reads ``filter_power``, or ``filter_power/<poison>`` for one kind: of the self-test of the filter that the records
    of this model went through. It says what would have been found; that nothing was found says little without it.

    Example:
        {rule: filter_power, value: 0.8}

    Fields:
        value: the bar that the low end has to reach.
        poison: which kind was planted; empty for the estimate over all kinds.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    value: float
    poison: str = ""
    severity: Severity = "required"

    def __post_init__(self) -> None:
        require_share("filter_power: value", self.value)

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        return reach(case, f"filter_power/{self.poison}" if self.poison else "filter_power", self.value)
