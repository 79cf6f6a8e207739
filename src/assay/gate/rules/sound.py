"""The measurement itself was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from assay.gate.verdict import Case, Finding, Severity

__all__ = ["Sound"]


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Every soundness check of the attacks that ran holds, and at least one ran: else robustness may be an illusion.

    Evidence about a model that can only be asked is sound for an adversary who only asks; ``knowledge: white-box`` asks
    for evidence whose every threat knows the weights.

    Example:
        {rule: sound}

    Fields:
        knowledge: what the adversary of the evidence has to know; empty for whatever its threats say.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    knowledge: Literal["", "white-box"] = ""
    severity: Severity = "required"

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        checks = case.evidence.soundness
        failed = sorted(name for name, said in checks.items() if said not in ("holds", "not_measured"))
        missing = sorted(name for name, said in checks.items() if said == "not_measured")
        about, need = "soundness", "of every check"
        weaker = sorted(set(_knowledge(case.evidence.measured)) - {"white-box"})
        if self.knowledge and weaker:
            note = f"an adversary with {', '.join(weaker)} knowledge, and white-box is asked for"
            return Finding(verdict="not_measured", about=about, need=need, note=note)
        if failed:
            return Finding(verdict="misses", about=about, need=need, note=f"{', '.join(failed)} did not hold")
        if not case.evidence.sound or case.evidence.truncated:
            return Finding(verdict="not_measured", about=about, need=need, note="no check ran to its end")
        note = f"{len(checks) - len(missing)} held" + (f"; not measured: {', '.join(missing)}" if missing else "")
        told = [each for each in weaker if each != "unknown"]
        note += f"; for {', '.join(told)} knowledge alone" if told else ""
        return Finding(verdict="holds", about=about, need=need, note=note)


def _knowledge(measured: Mapping[str, Any]) -> list[str]:
    """What each threat of evidence knows; one that does not say counts as knowing nothing."""
    threats = measured.get("threats")
    every = list(threats.values()) if isinstance(threats, dict) and threats else [None]
    return [str(it.get("knowledge", "unknown")) if isinstance(it, dict) else "unknown" for it in every]
