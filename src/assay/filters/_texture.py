"""Where an image is sharp: a linear view of what resampling does.

To move pixels by less than their width is to average neighbours, which takes contrast away where the image was moved,
by whatever content there is; to blend a pattern in adds contrast where the pattern has some. In the pixels both depend
on the content. In the logarithm of the second differences they are, place by place, nearly a shift.

Reference: Zeng, Park, Mao and Jia. Rethinking the Backdoor Attacks' Triggers: A Frequency Perspective. ICCV 2021:
    triggers leave traces at high frequencies. They classify the cosine transform of the image with a trained network.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from assay.filters._proxy import Scaled, pieces

GRID, LEAST_CONTRAST = 13, 0.03

__all__ = ["texture", "textures"]


def texture(x: Tensor | Scaled) -> npt.NDArray[np.float32]:
    """Log mean absolute second differences along rows and along columns, on a grid of at most 13 by 13 places.

    Args:
        x: images (N, C, H, W), in spreads; a difference of 0.03 or less counts as hardly any.

    Returns:
        (N, 2 * places) float32; no columns for images of fewer than three pixels a side.
    """
    return np.concatenate(list(textures(x)))


def textures(x: Tensor | Scaled) -> Iterator[npt.NDArray[np.float32]]:
    """The rows of `texture`, a part at a time."""
    height, width = x.shape[2] - 2, x.shape[3] - 2
    if min(height, width) < 1:
        yield np.empty((len(x), 0), dtype=np.float32)
        return
    size = min(GRID, -(-height // 2)), min(GRID, -(-width // 2))
    for part in pieces(x):
        yield _texture(part, size)


def _texture(x: Tensor, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    middle = 2 * x[..., 1:-1, 1:-1]
    across, down = x[..., 1:-1, 2:] + x[..., 1:-1, :-2] - middle, x[..., 2:, 1:-1] + x[..., :-2, 1:-1] - middle
    contrast = torch.stack([part.abs().mean(dim=1) for part in (across, down)], dim=1)
    pooled = functional.adaptive_avg_pool2d(contrast, size).flatten(1)
    return np.asarray((LEAST_CONTRAST + pooled).log().numpy())
