"""The greatest robust z-score among a record's features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from assay.sanitize.detectors import Floats, Labels, Scorer
from assay.sanitize.detectors.scaling import Scaling

__all__ = ["RobustZ"]


@dataclass(frozen=True, kw_only=True)
class RobustZ:
    """``max_j |x_j - median_j| / (1.4826 MAD_j)``.

    Reference: Iglewicz and Hoaglin. How to Detect and Handle Outliers. ASQC 1993.
    """

    reason: ClassVar[str] = "robust_z"
    fits: ClassVar[Literal["trusted", "records"]] = "trusted"

    def fit(self, x: Floats, y: Labels, *, seed: int) -> Scorer:
        """See `Detector.fit`."""
        scaling = Scaling.of(x)

        def score(x: Floats, y: Labels, *, same: bool = False) -> Floats:
            return np.asarray(np.abs(scaling(x)).max(axis=1))

        return score
