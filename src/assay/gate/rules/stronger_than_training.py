"""The model was attacked harder than it was trained to withstand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from assay.errors import UnfitInput
from assay.gate.verdict import Case, Finding, Severity, require_finite

IMPORTED = "imported"

__all__ = ["StrongerThanTraining"]


@dataclass(frozen=True, kw_only=True)
class StrongerThanTraining:
    """Some attack of the evidence takes ``factor`` times the steps, restarts included, of the attack trained against.

    A model measured with the attack that it learned to withstand shows what it learned, not what it withstands. Holds
    for a model trained against no attack; not measured for an imported one, of which nobody knows.

    Fields:
        factor: how many times the steps; above 1.
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
        learned, measured = _training_steps(trained), _measured_steps(case.evidence.measured.get("attacks"))
        if learned is None or measured is None:
            note = "the evidence does not say how many steps an attack took"
            return Finding(verdict="not_measured", about=about, need=need, note=note)
        holds = measured >= self.factor * learned
        note = f"{measured} measured, {learned} trained against"
        return Finding(verdict="holds" if holds else "misses", about=about, need=need, note=note)


def _training_steps(trained: Mapping[str, Any]) -> int | None:
    attack = trained.get("attack")
    settings = attack.get("settings") if isinstance(attack, Mapping) else None
    return _count(settings, "steps") if isinstance(settings, Mapping) else None


def _measured_steps(attacks: Any) -> int | None:
    """The most steps that any attack took on one record; one without steps, like FGSM, takes one."""
    if not isinstance(attacks, Mapping):
        return None
    told = [how for how in attacks.values() if isinstance(how, Mapping)]
    return max(((_count(how, "steps") or 1) * (_count(how, "restarts") or 1) for how in told), default=None)


def _count(settings: Mapping[str, Any], name: str) -> int | None:
    value = settings.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None
