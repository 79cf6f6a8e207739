"""An estimate reaches a bar in every slice of the hold-out, not only on average."""

from __future__ import annotations

from dataclasses import dataclass

from assay.evidence import less_is_better
from assay.gate.verdict import Case, Finding, Severity, estimate_name, reach, require_bar, stay, worst

__all__ = ["WorstSlice"]


@dataclass(frozen=True, kw_only=True)
class WorstSlice:
    """In every slice the true value is at least ``value``: an average hides the class or the supplier that fails.

    Of errors, such as ``mae`` and ``worst_case_error``, it is at most ``value``.

    Reads every estimate ``<estimate>[<by>=...]``. They have to cover as many records as the estimate of the whole, so a
    slice that is left out is noticed. A model at the bar in its worst slice passes no more often than under `at_least`,
    however many slices there are, since every one of them has to hold.

    Example:
        {rule: worst_slice, estimate: clean_accuracy, by: class, value: 0.7}

    Fields:
        estimate: its name, such as ``clean_accuracy``.
        by: what the slices differ in, such as ``class`` or ``source``.
        value: the bar that the low end has to reach in each; of errors, that the high end has to stay at or below.
        threat: ``norm:epsilon`` for an estimate under attack; empty for none.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    estimate: str
    by: str
    value: float
    threat: str = ""
    severity: Severity = "required"

    def __post_init__(self) -> None:
        require_bar("worst_slice: value", self.estimate, self.value)
        estimate_name(self.estimate, self.threat)

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        name = estimate_name(self.estimate, self.threat)
        within, sign = (stay, "<=") if less_is_better(name) else (reach, ">=")
        about, need = f"{name} in every {self.by}", f"{sign} {self.value:g}"
        names = self._slices(case, name)
        whole = case.evidence.estimates.get(name)
        covered = sum(case.evidence.estimates[each].n for each in names)
        if not names or whole is None or covered < whole.n:
            note = f"the evidence has {len(names)} slices with {covered} of {whole.n if whole else 'unknown'} records"
            return Finding(verdict="not_measured", about=about, need=need, note=note, bar=self.value)
        return worst([within(case, each, self.value) for each in names], about)

    def _slices(self, case: Case, name: str) -> list[str]:
        start, _, end = name.partition("/")
        tail = f"]/{end}" if end else "]"
        begin = f"{start}[{self.by}="
        return sorted(each for each in case.evidence.estimates if each.startswith(begin) and each.endswith(tail))
