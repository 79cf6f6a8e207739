"""The model was attacked harder than it was trained to withstand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from assay.effort import measured_efforts, trained_effort
from assay.errors import UnfitInput
from assay.gate.verdict import Case, Finding, Severity, require_finite

IMPORTED = "imported"

__all__ = ["StrongerThanTraining"]


@dataclass(frozen=True, kw_only=True)
class StrongerThanTraining:
    """Some attack of the evidence takes more steps than the one trained against, under the threat trained against.

    A model measured with the attack that it learned to withstand shows what it learned, not what it withstands. An
    attack counts that takes at least as many steps a restart, and over all restarts ``factor`` times as many: a hundred
    restarts of one step search less than one restart of a hundred. Steps on a surrogate, or of an attack that follows
    no gradient, do not count. It has to be made in the norm, box, goal and knowledge of the training, with a radius no
    smaller. Holds for a model trained against no attack; not measured for an imported one, of which nobody knows.

    Example:
        {rule: stronger_than_training, factor: 2}

    Fields:
        factor: how many times the steps, restarts included; above 1.
        severity: ``required``, or ``advisory`` to be told without being held to it.
    """

    reads_holdout: ClassVar[bool] = False
    factor: float = 2.0
    severity: Severity = "required"

    def __post_init__(self) -> None:
        require_finite("stronger_than_training: factor", self.factor)
        if not self.factor > 1:
            raise UnfitInput("stronger_than_training: factor", f"{self.factor}", "above 1")

    def __call__(self, case: Case) -> Finding:
        """Ask the rule."""
        about, need = "attack steps", f">= {self.factor:g} times those trained against"
        trained = case.evidence.measured.get("trained_against")
        if not isinstance(trained, Mapping) or trained.get("method", IMPORTED) == IMPORTED:
            note = "the evidence does not say what the model was trained against"
            return Finding(verdict="not_measured", about=about, need=need, note=note)
        if not trained.get("threat"):
            return Finding(verdict="holds", about=about, need=need, note="trained against no attack")
        threats = case.evidence.measured.get("threats")
        if not isinstance(threats, Mapping) or not any(_covers(key, str(trained["threat"])) for key in threats):
            note = f"no threat in norm, box, goal and knowledge of {trained['threat']}, and no smaller, was measured"
            return Finding(verdict="not_measured", about=about, need=need, note=note)
        learned, measured = trained_effort(trained), measured_efforts(case.evidence.measured.get("attacks")).values()
        if learned is None or not measured:
            note = "the evidence does not say how many steps an attack took"
            return Finding(verdict="not_measured", about=about, need=need, note=note)
        holds = any(one.exceeds(learned, self.factor) for one in measured)
        most = max(measured, key=lambda one: (one.all, one.steps))
        note = f"{most} measured, {learned} trained against"
        return Finding(verdict="holds" if holds else "misses", about=about, need=need, note=note)


def _covers(measured: Any, trained: str) -> bool:
    """Whether a threat's key has norm, box, goal and knowledge of another, and a radius no smaller."""
    (norm, radius, *rest), (norm_then, radius_then, *rest_then) = (f"{key}:".split(":") for key in (measured, trained))
    try:
        return (norm, rest) == (norm_then, rest_then) and float(radius) >= float(radius_then)
    except ValueError:
        return False
