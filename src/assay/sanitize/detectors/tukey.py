"""How far outside Tukey's box a record's farthest feature lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from assay.sanitize.detectors import Floats, Labels, Scorer
from assay.sanitize.detectors.scaling import Scaling

__all__ = ["Tukey"]


@dataclass(frozen=True, kw_only=True)
class Tukey:
    """``max_j max(q1_j - x_j, x_j - q3_j) / (q3_j - q1_j)``: 1.5 is Tukey's inner fence, 3 his outer one.

    Skewed features have long boxes on the side of their tail only for `robust_z`; here each side counts by itself.

    Reference: Tukey. Exploratory Data Analysis. Addison-Wesley 1977.
    """

    reason: ClassVar[str] = "tukey_fence"
    fits: ClassVar[Literal["trusted", "records"]] = "trusted"

    def fit(self, x: Floats, y: Labels, *, seed: int) -> Scorer:
        """See `Detector.fit`."""
        low, high = np.quantile(x, [0.25, 0.75], axis=0)
        width = np.where(high > low, high - low, Scaling.of(x).scale)

        def score(x: Floats, y: Labels, *, same: bool = False) -> Floats:
            with np.errstate(over="ignore"):
                return np.asarray(np.clip((np.maximum(low - x, x - high) / width).max(axis=1), -1e300, 1e300))

        return score
