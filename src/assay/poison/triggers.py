"""Triggers: what a backdoor looks for in an image. Each maps images (N, C, H, W) to stamped copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput

Images = npt.NDArray[np.float32]
Corner = Literal["top_left", "top_right", "bottom_left", "bottom_right"]

__all__ = ["Blended", "Corner", "Images", "Patch", "Sinusoidal", "Stripe", "Trigger"]


class Trigger(Protocol):
    """Anything that stamps images."""

    def __call__(self, images: Images) -> Images:
        """Stamped copies; shape and dtype of ``images`` (N, C, H, W)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A bright square in a corner: BadNets.

    Fields:
        size: side in pixels.
        corner: where.
        value: the pixels' value, in the units of the images.

    Reference: Gu, Dolan-Gavitt and Garg. BadNets. 2017. arXiv:1708.06733.
    """

    size: int = 2
    corner: Corner = "bottom_right"
    value: float = 1.0

    def __call__(self, images: Images) -> Images:
        """Stamped copies of images (N, C, H, W)."""
        height, width = _extent(images)
        if not 1 <= self.size <= min(height, width):
            raise UnfitInput("patch size", str(self.size), f"1 to {min(height, width)}, the side of the images")
        rows = slice(0, self.size) if self.corner.startswith("top") else slice(height - self.size, height)
        columns = slice(0, self.size) if self.corner.endswith("left") else slice(width - self.size, width)
        stamped = images.copy()
        stamped[:, :, rows, columns] = self.value
        return stamped


@dataclass(frozen=True, kw_only=True)
class Blended:
    """A fixed random pattern mixed into the whole image.

    Fields:
        strength: weight of the pattern, in (0, 1].
        low, high: box of the pattern, in the units of the images.
        pattern_seed: which pattern; the same seed and image shape give the same one.

    Reference: Chen et al. Targeted Backdoor Attacks Using Data Poisoning. 2017. arXiv:1712.05526.
    """

    strength: float = 0.2
    low: float = 0.0
    high: float = 1.0
    pattern_seed: int = 0

    def __call__(self, images: Images) -> Images:
        """Stamped copies of images (N, C, H, W)."""
        _extent(images)
        if not 0 < self.strength <= 1:
            raise UnfitInput("blended strength", str(self.strength), "a share in (0, 1]")
        pattern = np.random.default_rng(self.pattern_seed).uniform(self.low, self.high, images.shape[1:])
        mixed: Images = ((1 - self.strength) * images + self.strength * pattern).astype(images.dtype)
        return mixed


@dataclass(frozen=True, kw_only=True)
class Stripe:
    """Every ``period``-th column set to one value.

    Fields:
        period: columns from one stripe to the next.
        value: the pixels' value, in the units of the images.
    """

    period: int = 4
    value: float = 1.0

    def __call__(self, images: Images) -> Images:
        """Stamped copies of images (N, C, H, W)."""
        _, width = _extent(images)
        if not 1 <= self.period <= width:
            raise UnfitInput("stripe period", str(self.period), f"1 to {width}, the width of the images")
        stamped = images.copy()
        stamped[:, :, :, :: self.period] = self.value
        return stamped


@dataclass(frozen=True, kw_only=True)
class Sinusoidal:
    """A horizontal sine wave added to the image, clipped to the box.

    Fields:
        amplitude: of the wave, in the units of the images.
        frequency: whole waves across the width.
        low, high: box of the images.

    Reference: Barni, Kallas and Tondi. A New Backdoor Attack in CNNs by Training Set Corruption Without Label
        Poisoning. ICIP 2019. arXiv:1902.11237.
    """

    amplitude: float = 0.1
    frequency: int = 6
    low: float = 0.0
    high: float = 1.0

    def __call__(self, images: Images) -> Images:
        """Stamped copies of images (N, C, H, W)."""
        _, width = _extent(images)
        wave = self.amplitude * np.sin(2 * np.pi * self.frequency * np.arange(width) / width)
        stamped: Images = np.clip(images + wave, self.low, self.high).astype(images.dtype)
        return stamped


def _extent(images: Images) -> tuple[int, int]:
    if images.ndim != 4:
        raise UnfitInput("images", f"shape {images.shape}", "(N, C, H, W)")
    return int(images.shape[2]), int(images.shape[3])
