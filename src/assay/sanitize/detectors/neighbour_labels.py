"""Share of a record's nearest neighbours that carry another label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from assay.errors import UnfitInput
from assay.sanitize.detectors import Floats, Labels, Scorer
from assay.sanitize.detectors.scaling import Scaling

__all__ = ["NeighbourLabels"]


@dataclass(frozen=True, kw_only=True)
class NeighbourLabels:
    """Weight of the neighbours with another label, each weighted by the inverse of its rank.

    Fields:
        neighbours: how many.

    Reference: Wilson. Asymptotic Properties of Nearest Neighbor Rules Using Edited Data. 1972.
    """

    reason: ClassVar[str] = "label_unlike_neighbours"
    fits: ClassVar[Literal["trusted", "records"]] = "trusted"

    neighbours: int = 10

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise UnfitInput("neighbour_labels.neighbours", str(self.neighbours), "at least 1")

    def fit(self, x: Floats, y: Labels, *, seed: int) -> Scorer:
        """See `Detector.fit`."""
        from sklearn.neighbors import NearestNeighbors

        if len(x) < self.neighbours:
            raise UnfitInput("neighbour_labels", f"{len(x)} records to fit", f"at least {self.neighbours}")
        scaling, known = Scaling.of(x), y.copy()
        index = NearestNeighbors(n_neighbors=self.neighbours).fit(np.clip(scaling(x), -1e6, 1e6))
        weight = 1 / np.arange(1, self.neighbours + 1)

        def score(x: Floats, y: Labels, *, same: bool = False) -> Floats:
            near = index.kneighbors(np.clip(scaling(x), -1e6, 1e6), return_distance=False)
            return np.asarray((known[near] != y[:, None]) @ weight / weight.sum())

        return score
