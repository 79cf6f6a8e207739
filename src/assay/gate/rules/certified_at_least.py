"""The certified accuracy reaches a bar at a radius."""

from __future__ import annotations

from dataclasses import dataclass, replace

from assay.errors import UnfitInput
from assay.gate.verdict import Case, Finding, Severity, estimate_name, reach, require_finite, require_share, threat_of
from assay.threat import ThreatModel

NAME = "certified_accuracy"

__all__ = ["CertifiedAtLeast"]


@dataclass(frozen=True, kw_only=True)
class CertifiedAtLeast:
    """The share of records that are right and provably stay so within the radius is at least ``value``.

    Reads ``certified_accuracy/<threat>``, or for the smoothed classifier
    ``certified_accuracy[smoothed=<sigma>]/<threat>``: a certificate of the one is none of the other. One of a larger
    radius, in the same norm and box, is one of the smaller too, so it can make the rule hold; it cannot make it miss.

    Example:
        {rule: certified_at_least, threat: "l2:0.5", value: 0.3}

    Fields:
        threat: ``norm:radius``, such as ``l2:0.5``.
        value: the bar that the low end has to reach.
        smoothed: sigma of the noise, for who serves the smoothed classifier; 0 for the network itself.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    threat: str
    value: float
    smoothed: float = 0.0
    severity: Severity = "required"

    def __post_init__(self) -> None:
        require_share("certified_at_least: value", self.value)
        if not self.threat:
            raise UnfitInput("certified_at_least: threat", "nothing", "norm:radius, such as l2:0.5")
        require_finite("certified_at_least: smoothed", self.smoothed)
        estimate_name(self._name, self.threat)

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        about = estimate_name(self._name, self.threat)
        exact = reach(case, about, self.value)
        if about in case.evidence.estimates:
            return exact
        larger = [reach(case, name, self.value) for name in self._larger(case)]
        held = next((finding for finding in larger if finding.verdict == "holds"), None)
        if held is not None:
            return replace(held, about=about, note=f"certified by {held.about}")
        return exact

    @property
    def _name(self) -> str:
        return f"{NAME}[smoothed={self.smoothed:g}]" if self.smoothed else NAME

    def _larger(self, case: Case) -> list[str]:
        asked = threat_of(self.threat)
        found: list[tuple[float, str]] = []
        for name in case.evidence.estimates:
            base, _, key = name.partition("/")
            there = _threat(key) if base == self._name else None
            if there is not None and (there.norm, there.bounds) == (asked.norm, asked.bounds):
                found += [(there.epsilon, name)] if there.epsilon > asked.epsilon else []
        return [name for _, name in sorted(found)]


def _threat(key: str) -> ThreatModel | None:
    try:
        return threat_of(key)
    except UnfitInput:
        return None
