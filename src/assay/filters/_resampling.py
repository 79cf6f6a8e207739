"""Whether an image was resampled: learned from the images themselves and from copies moved by parts of a pixel.

To move an image, or parts of it, by less than a pixel is to average neighbours, whatever the image shows. What that
does to its sharpness, at three scales, can be learned without a single suspect: from a part of the images and their own
moved copies. The discriminant between the two says of every image how much it looks like a copy. Nothing it is made
from knows an origin or a label, so that under the hypothesis of `assay.filters.decide` its scores are exchangeable.

Reference: Popescu and Farid. Exposing Digital Forgeries by Detecting Traces of Resampling. IEEE Transactions on Signal
    Processing 53 (2005): resampled images are found by what interpolation leaves in them. They estimate the
    interpolation image by image; here a discriminant is learned from copies.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from assay.filters import Floats
from assay.filters._proxy import Scaled, pieces
from assay.filters._sharpen import LEAST_SUSPECTS, Discriminants
from assay.filters._texture import texture

MOST_COPIES, LEAST_SIDE = 4000, 3

__all__ = ["moved", "resampling"]


def resampling(x: Tensor | Scaled, seed: int) -> Floats:
    """Log-odds (N, 1) that each image is a moved copy, as of two Gaussians of one covariance, equally likely.

    Args:
        x: images (N, C, H, W), in spreads: records and trusted records in one, so that none is measured by the others.
        seed: of which are copied, and how far each copy is moved.

    Returns:
        No columns (N, 0) for images of fewer than three pixels a side.
    """
    if min(x.shape[2:]) < LEAST_SIDE:
        return np.empty((len(x), 0))
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(x), min(MOST_COPIES, len(x)), replace=False)
    shift = rng.uniform(0, 1, (2, len(drawn), 1, 1, 1)).astype(np.float32)
    if len(drawn) < LEAST_SUSPECTS:
        return np.zeros((len(x), 1))
    found = Discriminants(np.concatenate([_scales(x[drawn]), _scales(moved(x[drawn], torch.from_numpy(shift)))]))
    direction, middle = found.direction(np.arange(2 * len(drawn)) >= len(drawn))
    return np.concatenate([found.along(_scales(part), direction, middle) for part in pieces(x)])[:, None]


def moved(x: Tensor, shift: Tensor) -> Tensor:
    """Images (N, C, H, W), each moved by its part of a pixel down and to the right (2, N, 1, 1, 1), bilinearly."""
    wide = functional.pad(x, (1, 0, 1, 0), mode="replicate")
    down = wide[:, :, 1:] * (1 - shift[0]) + wide[:, :, :-1] * shift[0]
    return down[..., 1:] * (1 - shift[1]) + down[..., :-1] * shift[1]


def _scales(x: Tensor) -> npt.NDArray[np.float32]:
    """Texture of the images, of their averages over two by two places, and of every other such average (N, E)."""
    smooth = functional.avg_pool2d(x, 2, stride=1)
    return np.concatenate([texture(x), texture(smooth), texture(smooth[..., ::2, ::2])], axis=1)
