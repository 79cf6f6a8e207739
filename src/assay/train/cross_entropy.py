"""Cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from assay.threat import ThreatModel

__all__ = ["CrossEntropy"]


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """The negative log likelihood of the label: the baseline, with no protection against noise or attack."""

    defends: ClassVar[bool] = False

    def loss(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, *, threat: ThreatModel, generator: torch.Generator
    ) -> torch.Tensor:
        """The loss of each example, (N,)."""
        del threat, generator
        return functional.cross_entropy(model(x), y, reduction="none")
