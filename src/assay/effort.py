"""How hard an attack tries, in plain data: what a model was measured with beside what it was trained against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

FOLLOW_NO_GRADIENT = ("hopskipjump", "transfer")
"""Attacks whose ``steps`` are not along the gradient of the model that is measured."""

LOSSES = {"adversarial": "ce", "trades": "kl"}
"""What the attack inside a training method ascends."""

__all__ = ["FOLLOW_NO_GRADIENT", "Effort", "beside_training", "measured_efforts", "trained_effort"]


class Effort(NamedTuple):
    """Steps of each restart, how many restarts, and the loss that is ascended, empty where there is none to name."""

    steps: int
    restarts: int
    loss: str = ""

    @property
    def all(self) -> int:
        """Steps of all restarts."""
        return self.steps * self.restarts

    def exceeds(self, other: Effort, factor: float) -> bool:
        """At least as many steps a restart, and over all restarts so many times as many."""
        return self.steps >= other.steps and self.all >= factor * other.all

    def __str__(self) -> str:
        return f"{self.steps} steps" + (f" x {self.restarts} restarts" if self.restarts > 1 else "")


def trained_effort(trained: Mapping[str, Any]) -> Effort | None:
    """Of ``trained_against`` in evidence; None where it names no steps, as of a model trained against no attack."""
    attack = trained.get("attack")
    settings = attack.get("settings") if isinstance(attack, Mapping) else None
    steps = _count(settings, "steps") if isinstance(settings, Mapping) else None
    if not isinstance(settings, Mapping) or not steps:
        return None
    return Effort(steps, _count(settings, "restarts") or 1, LOSSES.get(str(trained.get("method")), ""))


def measured_efforts(attacks: Any) -> dict[str, Effort]:
    """Of ``attacks`` in evidence, by name, on one record; one without steps, like FGSM, takes one."""
    told = attacks.items() if isinstance(attacks, Mapping) else []
    return {
        name: Effort(_count(how, "steps") or 1, _count(how, "restarts") or 1, str(how.get("loss", "")))
        for name, how in told
        if isinstance(how, Mapping) and name not in FOLLOW_NO_GRADIENT
    }


def beside_training(trained: Mapping[str, Any], attacks: Mapping[str, Any]) -> dict[str, Any] | None:
    """For evidence: each attack beside the one trained against, if there was one, in steps, restarts and loss.

    ``stronger`` says that it takes at least as many steps a restart and more over all restarts, ``other_loss`` that it
    ascends another loss than the training knew. Whether the threat is the same too, and how much stronger is enough, is
    for the rule `stronger_than_training` to ask.
    """
    learned = trained_effort(trained)
    if learned is None:
        return None
    return {
        "trained": learned._asdict(),
        "attacks": {
            name: one._asdict()
            | {
                "stronger": one.exceeds(learned, 1) and one.all > learned.all,
                "other_loss": bool(one.loss) and one.loss != learned.loss,
            }
            for name, one in measured_efforts(attacks).items()
        },
    }


def _count(settings: Mapping[str, Any], name: str) -> int | None:
    value = settings.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None
