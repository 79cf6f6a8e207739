"""How few random cuts set a record apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput
from assay.sanitize.detectors import Floats, Labels, Scorer

LIMIT = float(np.finfo(np.float32).max) / 4  # cuts are drawn between two values: their distance must be a float too

__all__ = ["IsolationForest"]


@dataclass(frozen=True, kw_only=True)
class IsolationForest:
    """The anomaly score of isolation forests, in (0, 1), by scikit-learn.

    Fields:
        trees: how many.
        sample: records per tree.

    Reference: Liu, Ting, Zhou. Isolation Forest. ICDM 2008.
    """

    reason: ClassVar[str] = "isolated"
    fits: ClassVar[Literal["trusted", "records"]] = "trusted"

    trees: int = 100
    sample: int = 256

    def __post_init__(self) -> None:
        if self.trees < 1 or self.sample < 2:
            raise UnfitInput("isolation_forest", repr(self), "trees >= 1, sample >= 2")

    def fit(self, x: Floats, y: Labels, *, seed: int) -> Scorer:
        """See `Detector.fit`."""
        from sklearn.ensemble import IsolationForest as Forest

        forest = Forest(n_estimators=self.trees, max_samples=min(self.sample, len(x)), random_state=seed)
        forest.fit(_single(x))

        def score(x: Floats, y: Labels, *, same: bool = False) -> Floats:
            return np.asarray(-forest.score_samples(_single(x)), dtype=np.float64)

        return score


def _single(x: Floats) -> npt.NDArray[np.float32]:
    """Single precision, in which the trees compare; what lies beyond it is as far out as it goes."""
    return np.clip(x, -LIMIT, LIMIT).astype(np.float32)
