"""Squared error, for labels that are quantities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from assay.threat import ThreatModel

__all__ = ["SquaredError"]


@dataclass(frozen=True, kw_only=True)
class SquaredError:
    """Least squares: the model learns the mean, and one label far off pulls as hard as it is far."""

    defends: ClassVar[bool] = False
    task: ClassVar[str] = "regression"

    def loss(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, *, threat: ThreatModel, generator: torch.Generator
    ) -> torch.Tensor:
        """The loss of each example, (N,); y (N,) floating point."""
        del threat, generator
        found: torch.Tensor = (model(x).squeeze(1) - y) ** 2 / 2
        return found
