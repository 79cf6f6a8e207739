"""Huber's idea for classification: cross-entropy whose gradient is bounded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from assay.errors import UnfitInput
from assay.threat import ThreatModel

__all__ = ["Huber", "partially_huberised"]


@dataclass(frozen=True, kw_only=True)
class Huber:
    """Partially Huberised cross-entropy: logarithmic while the label is likely, linear where it is not.

    With p the predicted probability of the label, the loss is ``-log p`` for ``p > 1 / tau`` and the tangent
    ``1 + log tau - tau p`` below it. A record that the model finds absurd, as a wrong label is, then pulls with a force
    of at most tau, and with none at all as p goes to 0; under cross-entropy it pulls hardest. What it assumes: that
    labels are wrong at random and that more than half of each class are right.

    Fields:
        tau: above 1; the paper takes 2 for MNIST and CIFAR-10, 10 for CIFAR-100. Larger is nearer to cross-entropy,
            which it equals for infinite tau.

    Reference: Menon, Rawat, Reddi and Kumar. Can Gradient Clipping Mitigate Label Noise? ICLR 2020, section 5.
        Named for Huber. Robust Estimation of a Location Parameter. Ann. Math. Statist. 35 (1964), 73-101.
    """

    tau: float = 2.0

    defends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.tau > 1:
            raise UnfitInput("train.huber: tau", str(self.tau), "a number above 1")

    def loss(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, *, threat: ThreatModel, generator: torch.Generator
    ) -> torch.Tensor:
        """The loss of each example, (N,)."""
        del threat, generator
        return partially_huberised(model(x), y, self.tau)


def partially_huberised(logits: torch.Tensor, y: torch.Tensor, tau: float) -> torch.Tensor:
    """The loss of logits (N, K) under labels (N,) int64; see `Huber`."""
    log_p = -functional.cross_entropy(logits, y, reduction="none")
    if math.isinf(tau):
        return -log_p
    return torch.where(log_p > -math.log(tau), -log_p, 1 + math.log(tau) - tau * log_p.exp())
