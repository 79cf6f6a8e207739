"""The measurement itself was checked."""

from __future__ import annotations

from dataclasses import dataclass

from assay.gate.verdict import Case, Finding, Severity

__all__ = ["Sound"]


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Every soundness check of the attacks that ran holds, and at least one ran: else robustness may be an illusion.

    Example:
        {rule: sound}

    Fields:
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    severity: Severity = "required"

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        checks = case.evidence.soundness
        failed = sorted(name for name, said in checks.items() if said not in ("holds", "not_measured"))
        missing = sorted(name for name, said in checks.items() if said == "not_measured")
        about, need = "soundness", "of every check"
        if failed:
            return Finding(verdict="misses", about=about, need=need, note=f"{', '.join(failed)} did not hold")
        if not case.evidence.sound or case.evidence.truncated:
            return Finding(verdict="not_measured", about=about, need=need, note="no check ran to its end")
        note = f"{len(checks) - len(missing)} held" + (f"; not measured: {', '.join(missing)}" if missing else "")
        return Finding(verdict="holds", about=about, need=need, note=note)
