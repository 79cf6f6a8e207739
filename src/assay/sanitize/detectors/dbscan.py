"""Distance from the nearest core record: what lies in no dense region is noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from assay.errors import UnfitInput
from assay.sanitize.detectors import Floats, Labels, Scorer
from assay.sanitize.detectors.scaling import Scaling

__all__ = ["Dbscan"]


@dataclass(frozen=True, kw_only=True)
class Dbscan:
    """DBSCAN's core records, and the distance from the nearest one in units of its radius; above 1 is its noise.

    The radius is a quantile of the distances to the ``neighbours``-th neighbour (the k-distance plot of the paper).

    Fields:
        neighbours: within the radius of a core record, itself among them.
        quantile: share of the records that are core records.

    Reference: Ester, Kriegel, Sander, Xu. A Density-Based Algorithm for Discovering Clusters. KDD 1996.
    """

    reason: ClassVar[str] = "density_noise"
    fits: ClassVar[Literal["trusted", "records"]] = "trusted"

    neighbours: int = 5
    quantile: float = 0.9

    def __post_init__(self) -> None:
        if self.neighbours < 2 or not 0 < self.quantile <= 1:
            raise UnfitInput("dbscan", repr(self), "neighbours >= 2, quantile in (0, 1]")

    def fit(self, x: Floats, y: Labels, *, seed: int) -> Scorer:
        """See `Detector.fit`."""
        from sklearn.neighbors import NearestNeighbors

        if len(x) < self.neighbours:
            raise UnfitInput("dbscan", f"{len(x)} records to fit", f"at least {self.neighbours}")
        scaling = Scaling.of(x)
        z = np.clip(scaling(x), -1e6, 1e6)
        reach = NearestNeighbors(n_neighbors=self.neighbours).fit(z).kneighbors(z)[0][:, -1]
        radius = float(np.quantile(reach, self.quantile)) or 1.0
        core = NearestNeighbors(n_neighbors=1).fit(z[reach <= radius])

        def score(x: Floats, y: Labels, *, same: bool = False) -> Floats:
            return np.asarray(core.kneighbors(np.clip(scaling(x), -1e6, 1e6))[0][:, 0] / radius)

        return score
