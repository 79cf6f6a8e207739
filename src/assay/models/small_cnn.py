"""A small convolutional network for small images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from assay.errors import UnfitInput

__all__ = ["SmallCNN"]


@dataclass(frozen=True, kw_only=True)
class SmallCNN:
    """Three 3x3 convolutions, the last two of stride 2, and two fully connected layers, ReLU between all.

    No batch statistics and no dropout: training and evaluation compute the same function, on one record or many. No
    pooling either: every operation has a deterministic gradient on a GPU too.

    Fields:
        width: channels of the first convolution; the others have twice as many.
        hidden: width of the first fully connected layer.
    """

    width: int = 16
    hidden: int = 64

    def __post_init__(self) -> None:
        if min(self.width, self.hidden) < 1:
            raise UnfitInput("models.small_cnn", f"width {self.width}, hidden {self.hidden}", "both at least 1")

    def build(self, input_shape: Sequence[int], classes: int) -> nn.Module:
        """The network; takes (N, channels, height, width) of at least 4x4 pixels, gives logits (N, classes)."""
        if len(input_shape) != 3 or min(input_shape[1:]) < 4:
            raise UnfitInput(
                "models.small_cnn: input",
                f"shape {tuple(input_shape)}",
                "(channels, height, width) of at least 4x4",
                "Use mlp or linear for tables.",
            )
        channels, height, width = input_shape
        flat = 2 * self.width * -(-height // 4) * -(-width // 4)
        return nn.Sequential(
            nn.Conv2d(channels, self.width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(self.width, 2 * self.width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * self.width, 2 * self.width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(flat, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, classes),
        )
