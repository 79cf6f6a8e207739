"""The model is no worse than the champion, on the same records."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from assay.errors import UnfitInput
from assay.estimate import Estimate
from assay.evidence import less_is_better, minus_champion
from assay.gate.verdict import Case, Finding, Severity, estimate_name, reach, require_finite, stay

__all__ = ["NoWorseThan"]


@dataclass(frozen=True, kw_only=True)
class NoWorseThan:
    """The paired difference to the champion is at least ``-margin``: holds when low >= -margin, misses when high < it.

    Of errors, such as ``mae`` and ``worst_case_error``, it is at most ``margin``: holds when high <= margin, misses
    when low > it.

    The difference was measured on the same records, so it is far sharper than two intervals side by side. It counts
    only against the champion that stands now: one that was replaced since the measurement is not measured.

    Example:
        {rule: no_worse_than, champion: true, estimate: clean_accuracy, margin: 0.02, without_champion: holds}

    Fields:
        estimate: which estimate to compare, such as ``clean_accuracy``.
        without_champion: what the rule says while nothing has been promoted yet: ``holds``, ``misses`` or
            ``not_measured``. There is no default; the policy must say.
        margin: how much worse is still accepted, in the units of the estimate.
        champion: true; the one the model is compared with.
        threat: ``norm:epsilon`` for an estimate under attack; empty for none.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    estimate: str
    without_champion: Literal["holds", "misses", "not_measured"]
    margin: float = 0.0
    champion: Literal[True] = True
    threat: str = ""
    severity: Severity = "required"

    def __post_init__(self) -> None:
        require_finite("no_worse_than: margin", self.margin)
        if not self.margin >= 0:
            raise UnfitInput("no_worse_than: margin", f"{self.margin}", "0 or more")
        estimate_name(self.estimate, self.threat)

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        about = estimate_name(minus_champion(self.estimate), self.threat)
        bar = self.margin if less_is_better(self.estimate) else -self.margin
        need = f"<= {bar:g}" if less_is_better(self.estimate) else f">= {bar:g}"
        measured = case.evidence.subjects.get("champion", "")
        if measured != case.champion:
            note = f"it was compared with {_name(measured)}, the champion now is {_name(case.champion)}"
            return Finding(verdict="not_measured", about=about, need=need, note=note, bar=bar)
        if not measured:
            note = f"there is no champion yet, and the policy says: {self.without_champion}"
            return Finding(verdict=self.without_champion, about=about, need=need, note=note, bar=bar)
        within = stay if less_is_better(self.estimate) else reach
        return within(case, about, bar, need, self._settling)

    def _settling(self, found: Estimate) -> str:
        """Intervals shrink with the square root of n, to first order."""
        sign, end = (-1, found.high) if less_is_better(self.estimate) else (1, found.low)
        distance = sign * found.value + self.margin
        if not distance > 0:
            return ""
        n = math.ceil(found.n * ((found.value - end) / distance) ** 2)
        return f"at {found.value:.3f}, about n={n} would settle it"


def _name(model: str) -> str:
    return f"model {model[:8]}" if model else "none"
