"""Adversarial training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from assay.attacks.pgd import PGD
from assay.errors import UnfitInput
from assay.threat import ThreatModel

__all__ = ["Adversarial"]


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Cross-entropy of inputs that PGD has moved as far against the label as the threat model lets it.

    Fields:
        steps: of PGD from one random start per batch; each costs one forward and one backward pass.

    Reference: Madry et al. Towards Deep Learning Models Resistant to Adversarial Attacks.
        ICLR 2018, eq. 2.1. arXiv:1706.06083.
    """

    steps: int = 7

    defends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UnfitInput("train.adversarial: steps", str(self.steps), "at least 1")

    def loss(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, *, threat: ThreatModel, generator: torch.Generator
    ) -> torch.Tensor:
        """The loss of each example, (N,)."""
        training = model.training
        model.eval()
        try:
            x_adv = PGD(steps=self.steps, restarts=1)(model, x, y, threat, generator=generator)
        finally:
            model.train(training)
        return functional.cross_entropy(model(x_adv), y, reduction="none")
