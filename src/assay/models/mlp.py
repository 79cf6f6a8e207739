"""A multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from assay.errors import UnfitInput

__all__ = ["MLP"]


@dataclass(frozen=True, kw_only=True)
class MLP:
    """Fully connected layers with ReLU between them, for tables and (flattened) images.

    Fields:
        hidden: width of each hidden layer; at least one.
    """

    hidden: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise UnfitInput("models.mlp: hidden", str(self.hidden), "one or more widths of at least 1")

    def build(self, input_shape: Sequence[int], classes: int) -> nn.Module:
        """The network; takes (N, *input_shape), gives logits (N, classes)."""
        widths = (math.prod(input_shape), *self.hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for wide, next_wide in pairwise(widths):
            layers += [nn.Linear(wide, next_wide), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
