"""Huber's loss, for labels that are quantities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from assay.errors import UnfitInput
from assay.threat import ThreatModel

__all__ = ["HuberRegression"]


@dataclass(frozen=True, kw_only=True)
class HuberRegression:
    """Squared error up to ``delta``, linear beyond it: no label, however wrong, pulls harder than ``delta``.

    Fields:
        delta: above 0, in units of the spread of the labels (their standard deviation, as the step scales them). At
            1.345 standard deviations of Gaussian noise the loss keeps 95 % of the efficiency of least squares.

    Reference: Huber. Robust Estimation of a Location Parameter. Ann. Math. Statist. 35 (1964), 73-101.
    """

    delta: float = 1.345

    defends: ClassVar[bool] = False
    task: ClassVar[str] = "regression"

    def __post_init__(self) -> None:
        if not 0 < self.delta < float("inf"):
            raise UnfitInput("train.huber_regression: delta", str(self.delta), "a finite number above 0")

    def loss(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, *, threat: ThreatModel, generator: torch.Generator
    ) -> torch.Tensor:
        """The loss of each example, (N,); y (N,) floating point."""
        del threat, generator
        return functional.huber_loss(model(x).squeeze(1), y, reduction="none", delta=self.delta)
