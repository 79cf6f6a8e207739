"""A smooth warp: nothing is added to the image, its parts move a little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from assay.errors import UnfitInput
from assay.poison.triggers import Images, extent

__all__ = ["Warp"]


@dataclass(frozen=True, kw_only=True)
class Warp:
    """Every pixel is read from a place a little off, by one smooth random field.

    The field is drawn on a coarse grid, scaled to a mean absolute displacement of ``strength`` pixels, and interpolated
    by cubic splines; pixels are interpolated linearly, places outside the image are those of its edge.

    Fields:
        strength: mean absolute displacement at the grid's points, pixels.
        grid: points of the coarse grid a side.
        seed: which field; the same seed and image shape give the same one.

    Reference: Nguyen and Tran. WaNet: Imperceptible Warping-based Backdoor Attack. ICLR 2021. arXiv:2102.10369; here
        without the noise mode.
    """

    strength: float = 1.0
    grid: int = 4
    seed: int = 0

    def __call__(self, images: Images) -> Images:
        """Stamped copies of images (N, C, H, W)."""
        height, width = extent(images)
        if not self.strength > 0 or self.grid < 2:
            raise UnfitInput("warp", repr(self), "strength above 0, a grid of 2 or more points")
        places = self.places(height, width)
        moved = np.empty_like(images)
        planes = (batch.reshape(-1, *images.shape[2:]) for batch in (images, moved))
        for plane, result in zip(*planes, strict=True):
            ndimage.map_coordinates(plane, places, result, order=1, mode="nearest")
        return moved

    def places(self, height: int, width: int) -> npt.NDArray[np.float64]:
        """Where every pixel is read from, (2, H, W): row and column."""
        coarse = np.random.default_rng(self.seed).uniform(-1, 1, (2, self.grid, self.grid))
        coarse *= self.strength / np.abs(coarse).mean()
        rows, columns = (np.linspace(0, self.grid - 1, side) for side in (height, width))
        points = np.stack(np.meshgrid(rows, columns, indexing="ij"))
        field = np.stack([ndimage.map_coordinates(part, points, order=3, mode="nearest") for part in coarse])
        return np.asarray(np.indices((height, width)) + field)
