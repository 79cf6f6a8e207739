"""A linear model: logits are an affine map of the input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

__all__ = ["Linear"]


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Multinomial logistic regression, for tables and (flattened) images; its worst case has a closed form."""

    def build(self, input_shape: Sequence[int], classes: int) -> nn.Module:
        """The network; takes (N, *input_shape), gives logits (N, classes)."""
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))
