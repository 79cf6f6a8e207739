"""A pattern mixed into the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.errors import UnfitInput
from assay.poison.triggers import Images, extent

__all__ = ["Blended"]


@dataclass(frozen=True, kw_only=True)
class Blended:
    """A fixed random pattern mixed into the whole image, or into some cells of a grid laid over it.

    Fields:
        strength: weight of the pattern, in (0, 1].
        low, high: box of the pattern, in the units of the images.
        pattern_seed: which pattern; the same seed and image shape give the same one.
        grid: cells a side.
        cells: which of them, counted by rows; empty for all.

    Reference: Chen et al. Targeted Backdoor Attacks Using Data Poisoning. 2017. arXiv:1712.05526; the cells are for
        Adap-Blend, see `assay.poison.adaptive`.
    """

    strength: float = 0.2
    low: float = 0.0
    high: float = 1.0
    pattern_seed: int = 0
    grid: int = 1
    cells: tuple[int, ...] = ()

    def __call__(self, images: Images) -> Images:
        """Stamped copies of images (N, C, H, W)."""
        height, width = extent(images)
        if not 0 < self.strength <= 1:
            raise UnfitInput("blended strength", str(self.strength), "a share in (0, 1]")
        if not 1 <= self.grid <= min(height, width) or any(not 0 <= cell < self.grid**2 for cell in self.cells):
            raise UnfitInput("blended cells", f"{self.cells} of a grid of {self.grid}", "cells of a grid on the image")
        pattern = np.random.default_rng(self.pattern_seed).uniform(self.low, self.high, images.shape[1:])
        places = [np.arange(side) * self.grid // side for side in (height, width)]
        cell = places[0][:, None] * self.grid + places[1]
        weight = self.strength * np.isin(cell, self.cells or range(self.grid**2))
        mixed: Images = ((1 - weight) * images + weight * pattern).astype(images.dtype)
        return mixed
