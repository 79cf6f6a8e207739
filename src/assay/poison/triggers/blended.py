"""A pattern mixed into the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.errors import UnfitInput
from assay.poison.triggers import Images, extent

__all__ = ["Blended"]


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
        extent(images)
        if not 0 < self.strength <= 1:
            raise UnfitInput("blended strength", str(self.strength), "a share in (0, 1]")
        pattern = np.random.default_rng(self.pattern_seed).uniform(self.low, self.high, images.shape[1:])
        mixed: Images = ((1 - self.strength) * images + self.strength * pattern).astype(images.dtype)
        return mixed
