"""Triggers: what a backdoor looks for in an image. Each maps images (N, C, H, W) to stamped copies."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput

Images = npt.NDArray[np.float32]

__all__ = ["Images", "Trigger", "extent"]


class Trigger(Protocol):
    """Anything that stamps images."""

    def __call__(self, images: Images) -> Images:
        """Stamped copies; shape and dtype of ``images`` (N, C, H, W)."""
        ...


def extent(images: Images) -> tuple[int, int]:
    """Height and width of images.

    Raises:
        UnfitInput: anything but (N, C, H, W).
    """
    if images.ndim != 4:
        raise UnfitInput("trigger", f"inputs of shape {images.shape[1:]}", "images, (N, C, H, W)")
    return int(images.shape[2]), int(images.shape[3])
