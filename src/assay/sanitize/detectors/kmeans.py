"""Distance from the nearest cluster's centre, in units of how far its own records lie from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from assay.errors import UnfitInput
from assay.sanitize.detectors import Floats, Labels, Scorer
from assay.sanitize.detectors.scaling import Scaling

__all__ = ["KMeans"]


@dataclass(frozen=True, kw_only=True)
class KMeans:
    """Distance to the nearest of ``clusters`` centres (Lloyd 1982), divided by the median distance of its records.

    Fields:
        clusters: how many; no more than half of the records it is fitted to.
    """

    reason: ClassVar[str] = "far_from_clusters"
    fits: ClassVar[Literal["trusted", "records"]] = "trusted"

    clusters: int = 8

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise UnfitInput("kmeans.clusters", str(self.clusters), "at least 1")

    def fit(self, x: Floats, y: Labels, *, seed: int) -> Scorer:
        """See `Detector.fit`."""
        from sklearn.cluster import KMeans as Lloyd

        scaling = Scaling.of(x)
        z = np.clip(scaling(x), -1e6, 1e6)
        clusters = max(1, min(self.clusters, len(z) // 2, len(np.unique(z, axis=0))))
        model = Lloyd(clusters, n_init=3, random_state=seed).fit(z)
        centres = model.cluster_centers_
        own = np.linalg.norm(z - centres[model.labels_], axis=1)
        spread = np.array([np.median(own[model.labels_ == k]) for k in range(len(centres))])
        spread = np.where(spread > 0, spread, np.median(own) or 1.0)

        def score(x: Floats, y: Labels, *, same: bool = False) -> Floats:
            z = scaling(x)
            squared = (z**2).sum(axis=1)[:, None] - 2 * z @ centres.T + (centres**2).sum(axis=1)
            return np.asarray((np.sqrt(np.maximum(squared, 0)) / spread).min(axis=1))

        return score
