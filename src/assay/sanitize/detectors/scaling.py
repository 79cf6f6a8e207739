"""Location and scale of columns that a few wild values cannot move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.data.matrix import Floats

CONSISTENT = 1.4826  # of the median absolute deviation, for the standard deviation of a normal distribution
MEAN_CONSISTENT = 1.2533  # of the mean absolute deviation, where more than half of the values are equal
LEAST = float(np.finfo(np.float32).eps)

__all__ = ["Scaling"]


@dataclass(frozen=True)
class Scaling:
    """Median and scale of every column, (D,).

    The scale is the median absolute deviation; where that is 0, the mean one (Iglewicz and Hoaglin 1993); where all
    values are equal, one unit in the last place of a float32, so that any other value stands far out.
    """

    centre: Floats
    scale: Floats

    @classmethod
    def of(cls, x: Floats) -> Scaling:
        """Of records (M, D)."""
        centre = np.median(x, axis=0)
        away = np.abs(x - centre)
        scale = CONSISTENT * np.median(away, axis=0)
        scale = np.where(scale > 0, scale, MEAN_CONSISTENT * away.mean(axis=0))
        return cls(centre, np.where(scale > 0, scale, LEAST * np.maximum(1, np.abs(centre))))

    def __call__(self, x: Floats) -> Floats:
        """Records in units of the scale, cut off where a float would overflow when squared and summed."""
        with np.errstate(over="ignore"):
            return np.asarray(np.clip((x - self.centre) / self.scale, -1e100, 1e100))
