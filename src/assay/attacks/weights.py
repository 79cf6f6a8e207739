"""The search for the weight of being wrong against being near, for attacks that look for the least perturbation."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

__all__ = ["Search"]


@dataclass(frozen=True)
class Search:
    """Of each record still attacked: x, the weight and what bounds it, and whether this weight broke it anywhere.

    Reference: Carlini and Wagner. Towards Evaluating the Robustness of Neural Networks. S&P 2017, section VI A.
        arXiv:1608.04644.
    """

    x: torch.Tensor
    weight: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    found: torch.Tensor

    @classmethod
    def begin(cls, x: torch.Tensor, weight: float) -> Search:
        """The first weight, for each of (N, ...) records."""
        first = torch.full((len(x),), weight, dtype=x.dtype, device=x.device)
        none = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return cls(x, first, torch.zeros_like(first), torch.full_like(first, torch.inf), none)

    def of(self, rows: torch.Tensor) -> Search:
        """Of some of the records."""
        return Search(*(getattr(self, field.name)[rows] for field in fields(self)))

    def next(self) -> Search:
        """A weight half way to the bound, ten times the last where there is no upper one yet."""
        low = torch.where(self.found, self.low, self.weight)
        high = torch.where(self.found, self.weight, self.high)
        weight = torch.where(high.isinf(), 10 * self.weight, (low + high) / 2)
        return replace(self, weight=weight, low=low, high=high, found=torch.zeros_like(self.found))
