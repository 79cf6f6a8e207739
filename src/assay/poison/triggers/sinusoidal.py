"""A sine wave across the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.poison.triggers import Images, extent

__all__ = ["Sinusoidal"]


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
        _, width = extent(images)
        wave = self.amplitude * np.sin(2 * np.pi * self.frequency * np.arange(width) / width)
        stamped: Images = np.clip(images + wave, self.low, self.high).astype(images.dtype)
        return stamped
