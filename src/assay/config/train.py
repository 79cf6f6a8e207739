"""What is trained, and under which attack."""

from __future__ import annotations

from typing import Any

import pydantic

from assay.config.base import Section
from assay.config.device import Device

__all__ = ["Member", "TrainConfig"]


class Member(Section):
    """A member of a family and its settings."""

    name: str
    settings: dict[str, Any] = pydantic.Field(default_factory=dict)


class TrainConfig(Section):
    """Model, method and optimisation.

    Fields:
        model: member of ``models``.
        method: member of ``train``: ``cross_entropy``, ``huber``, ``adversarial``; where the label is a quantity,
            ``squared_error`` or ``huber_regression``.
        threat: what an adversarial method defends against, ``norm:epsilon``.
        bounds: the box of valid inputs, one pair for all features. None takes [0, 1] when all training records lie
            in it; for other tables, the least and greatest value of all columns, rounded outwards by one to two
            units of the leading digit of their distance. Images outside [0, 1] need it.
        epochs, batch_size, learning_rate, weight_decay: of Adam.
        seed: of initial weights, order and attacks.
        threads: torch threads; fixed, because another number gives other bytes.
        device: ``auto`` takes a GPU where there is one; the model says which it was.
    """

    model: Member = Member(name="small_cnn")
    method: Member = Member(name="adversarial")
    threat: str = "linf:0.1"
    bounds: tuple[float, float] | None = None
    epochs: int = pydantic.Field(default=20, ge=1, le=100_000)
    batch_size: int = pydantic.Field(default=64, ge=1)
    learning_rate: float = pydantic.Field(default=2e-3, gt=0)
    weight_decay: float = pydantic.Field(default=1e-4, ge=0)
    seed: int = pydantic.Field(default=0, ge=0, lt=2**53)
    threads: int = pydantic.Field(default=2, ge=1, le=256)
    device: Device = "auto"
