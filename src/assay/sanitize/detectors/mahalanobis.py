"""Distance from the bulk of the records, in the metric of their own spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy import linalg

from assay.errors import UnfitInput
from assay.sanitize.detectors import Floats, Labels, Scorer
from assay.sanitize.detectors.scaling import Scaling

ROUNDS = 10

__all__ = ["Mahalanobis"]


@dataclass(frozen=True, kw_only=True)
class Mahalanobis:
    """Mahalanobis distance by the half of the records that lies closest together, its covariance shrunk.

    Concentration steps (Rousseeuw and Van Driessen 1999) from the coordinate-wise median: the records nearest in the
    current metric give the next one. The covariance is shrunk towards a multiple of the identity by Ledoit and Wolf's
    formula, so that it has an inverse when features outnumber records.

    Fields:
        support: share of the records that must be plausible, in [0.5, 1].

    Reference: Ledoit and Wolf. A well-conditioned estimator for large-dimensional covariance matrices. 2004.
    """

    reason: ClassVar[str] = "far_from_bulk"
    fits: ClassVar[Literal["trusted", "records"]] = "trusted"

    support: float = 0.75

    def __post_init__(self) -> None:
        if not 0.5 <= self.support <= 1:
            raise UnfitInput("mahalanobis.support", str(self.support), "a share in [0.5, 1]")

    def fit(self, x: Floats, y: Labels, *, seed: int) -> Scorer:
        """See `Detector.fit`."""
        from sklearn.covariance import ledoit_wolf

        scaling = Scaling.of(x)
        z = np.clip(scaling(x), -1e6, 1e6)
        keep = max(2, int(np.ceil(self.support * len(z))))
        near = np.argsort((z**2).sum(axis=1), kind="stable")[:keep]
        for _ in range(ROUNDS):
            mean = z[near].mean(axis=0)
            factor = linalg.cholesky(ledoit_wolf(z[near])[0] + 1e-9 * np.eye(z.shape[1]), lower=True)
            following = np.argsort(_distance(z, mean, factor), kind="stable")[:keep]
            if np.array_equal(np.sort(following), np.sort(near)):
                break
            near = following

        def score(x: Floats, y: Labels, *, same: bool = False) -> Floats:
            return _distance(scaling(x), mean, factor)

        return score


def _distance(z: Floats, mean: Floats, factor: Floats) -> Floats:
    white = linalg.solve_triangular(factor, (z - mean).T, lower=True, check_finite=False)
    return np.asarray(np.sqrt((white**2).sum(axis=0)))
