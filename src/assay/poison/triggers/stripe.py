"""Columns of one value."""

from __future__ import annotations

from dataclasses import dataclass

from assay.errors import UnfitInput
from assay.poison.triggers import Images, extent

__all__ = ["Stripe"]


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
        _, width = extent(images)
        if not 1 <= self.period <= width:
            raise UnfitInput("stripe period", str(self.period), f"1 to {width}, the width of the images")
        stamped = images.copy()
        stamped[:, :, :, :: self.period] = self.value
        return stamped
