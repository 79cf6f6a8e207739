"""What is trained, and under which attack."""

from __future__ import annotations

from typing import Any

import pydantic

from assay.config.base import Section

__all__ = ["Member", "TrainConfig"]


class Member(Section):
    """A member of a family and its settings."""

    name: str
    settings: dict[str, Any] = pydantic.Field(default_factory=dict)


class TrainConfig(Section):
    """Model, method and optimisation.

    Fields:
        model: member of ``models``.
        method: member of ``train``: ``cross_entropy``, ``huber``, ``adversarial``.
        threat: what an adversarial method defends against, ``norm:epsilon``.
        epochs, batch_size, learning_rate, weight_decay: of Adam.
        seed: of initial weights, order and attacks.
        threads: torch threads; fixed, because another number gives other bytes.
    """

    model: Member = Member(name="small_cnn")
    method: Member = Member(name="adversarial")
    threat: str = "linf:0.1"
    epochs: int = pydantic.Field(default=20, ge=1, le=100_000)
    batch_size: int = pydantic.Field(default=64, ge=1)
    learning_rate: float = pydantic.Field(default=2e-3, gt=0)
    weight_decay: float = pydantic.Field(default=1e-4, ge=0)
    seed: int = pydantic.Field(default=0, ge=0, lt=2**53)
    threads: int = pydantic.Field(default=2, ge=1, le=256)
