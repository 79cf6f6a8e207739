"""What corruptions are made of: sampling between pixels, blurs, clouds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Images = npt.NDArray[np.float64]
Corruption = Callable[[Images, int, np.random.Generator], Images]
"""Images (N, C, H, W) in [0, 1], severity from 0, and the source of what is drawn."""

FINE = 8

__all__ = ["Corruption", "Images", "blurred", "clouds", "disk", "grid", "sampled", "side"]


def side(x: Images) -> int:
    """The shorter side, the unit of lengths."""
    return int(min(x.shape[2:]))


def grid(x: Images) -> tuple[Images, Images]:
    """Row and column of every pixel, each (1, H, W)."""
    rows, columns = np.meshgrid(*(np.arange(size, dtype=np.float64) for size in x.shape[2:]), indexing="ij")
    return rows[None], columns[None]


def sampled(x: Images, rows: Images, columns: Images) -> Images:
    """Images at places between pixels: bilinear, beyond the edge its last pixel.

    Args:
        x: (N, C, H, W).
        rows: (N or 1, H', W') places.
        columns: of the same shape.
    """
    height, width = x.shape[2:]
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    top, left = (np.minimum(each.astype(np.int64), size - 1) for each, size in ((rows, height), (columns, width)))
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, along = (rows - top)[:, None], (columns - left)[:, None]
    which = np.arange(len(x))[:, None, None]

    def at(row: npt.NDArray[Any], column: npt.NDArray[Any]) -> Images:
        picked: Images = x[which, :, row, column]  # (N, H', W', C)
        return np.moveaxis(picked, 3, 1)

    upper = at(top, left) * (1 - along) + at(top, right) * along
    lower = at(bottom, left) * (1 - along) + at(bottom, right) * along
    mixed: Images = upper * (1 - down) + lower * down
    return mixed


def blurred(x: Images, sigma: float) -> Images:
    """A Gaussian blur of each channel; sigma in pixels."""
    found: Images = ndimage.gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest")
    return found


def disk(x: Images, radius: float) -> Images:
    """The mean over a disk; radius in pixels, its edge cut finely, so that parts of pixels count."""
    reach = int(np.ceil(radius + 0.5))
    fine = (np.arange((2 * reach + 1) * FINE) + 0.5) / FINE - reach - 0.5
    inside = (fine[:, None] ** 2 + fine[None] ** 2 <= radius**2).astype(np.float64)
    kernel = inside.reshape(2 * reach + 1, FINE, 2 * reach + 1, FINE).sum((1, 3))
    found: Images = ndimage.convolve(x, (kernel / kernel.sum())[None, None], mode="nearest")
    return found


def clouds(rng: np.random.Generator, shape: tuple[int, int, int], decay: float) -> Images:
    """(N, H, W) in [0, 1]: random fields of ever finer grain, each so many times weaker than the one before."""
    count, height, width = shape
    total = np.zeros(shape)
    for octave in range(1, max(2, int(np.ceil(np.log2(max(height, width)))) + 1)):
        cells = 2**octave
        coarse = rng.uniform(-1, 1, (count, 1, cells + 1, cells + 1))
        rows = np.linspace(0, cells, height)[None, :, None] + np.zeros((1, 1, width))
        columns = np.linspace(0, cells, width)[None, None, :] + np.zeros((1, height, 1))
        total += sampled(coarse, rows, columns)[:, 0] / decay ** (octave - 1)
    low, high = total.min((1, 2), keepdims=True), total.max((1, 2), keepdims=True)
    found: Images = (total - low) / np.maximum(high - low, 1e-12)
    return found
