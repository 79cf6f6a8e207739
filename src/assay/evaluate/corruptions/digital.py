"""What happens to a picture on its way: flat contrast, a warped sheet, few pixels, strong compression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from assay.evaluate.corruptions.field import Corruption, Images, grid, sampled, side

BLOCK = 8
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=np.float64,
)
"""Recommendation ITU-T T.81, table K.1."""
COLOUR = np.full((8, 8), 99.0)
COLOUR[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
"""Table K.2."""
YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])

__all__ = ["KINDS"]


def contrast(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Every channel drawn towards its mean."""
    mean = x.mean((2, 3), keepdims=True)
    found: Images = mean + (0.75, 0.55, 0.4, 0.27, 0.15)[severity] * (x - mean)
    return found


def elastic_transform(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """A sheet that is pulled about: smooth random displacements that grow."""
    reach = (0.03, 0.045, 0.06, 0.08, 0.105)[severity] * side(x)
    away = rng.uniform(-1, 1, (2, len(x), *x.shape[2:]))
    smooth = ndimage.gaussian_filter(away, (0, 0, 0.12 * side(x), 0.12 * side(x)), mode="reflect")
    smooth *= reach / np.abs(smooth).max((2, 3), keepdims=True)
    rows, columns = grid(x)
    return sampled(x, rows + smooth[0], columns + smooth[1])


def pixelate(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """The mean over ever larger cells."""
    keep = (0.85, 0.72, 0.6, 0.5, 0.4)[severity]
    rows, columns = (_cells(size, keep) for size in x.shape[2:])
    found: Images = rows @ x @ columns.T
    return found


def jpeg_compression(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Blocks of 8x8 pixels, their cosine coefficients rounded as JPEG of ever lower quality rounds them."""
    quality = (60, 40, 25, 15, 8)[severity]
    coarse = 5000 / quality if quality < 50 else 200 - 2 * quality
    grey = x.shape[1] != 3
    planes = 255 * (x if grey else np.einsum("ij,njhw->nihw", YCBCR, x))
    planes = np.stack(
        [_rounded(planes[:, at], LUMINANCE if grey or at == 0 else COLOUR, coarse) for at in range(x.shape[1])], 1
    )
    found: Images = (planes if grey else np.einsum("ij,njhw->nihw", np.linalg.inv(YCBCR), planes)) / 255
    return found


def _rounded(plane: Images, table: npt.NDArray[np.float64], coarse: float) -> Images:
    """(N, H, W) in [0, 255] through quantised blocks; the last row and column are repeated to fill the last blocks."""
    count, height, width = plane.shape
    filled = np.pad(plane, ((0, 0), (0, -height % BLOCK), (0, -width % BLOCK)), mode="edge")
    shape = (count, filled.shape[1] // BLOCK, BLOCK, filled.shape[2] // BLOCK, BLOCK)
    steps = np.clip(np.floor((table * coarse + 50) / 100), 1, 255)[:, None, :]
    coefficients = fft.dctn(filled.reshape(shape) - 128, axes=(2, 4), norm="ortho")
    back = fft.idctn(np.round(coefficients / steps) * steps, axes=(2, 4), norm="ortho") + 128
    made: Images = back.reshape(filled.shape)[:, :height, :width]
    return made


def _cells(size: int, keep: float) -> Images:
    """(size, size): each pixel becomes the mean over its cell, of which there are about keep * size."""
    cells = max(1, round(keep * size))
    which = np.arange(size) * cells // size
    same = (which[:, None] == which[None]).astype(np.float64)
    found: Images = same / same.sum(1, keepdims=True)
    return found


KINDS: dict[str, Corruption] = {
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
}
