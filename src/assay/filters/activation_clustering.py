"""Activation clustering with a guard: two clusters, and suspicion only where they are well apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.filters._linear import each_class, leading

ROUNDS = 100

__all__ = ["ActivationClustering", "two_means"]


@dataclass(frozen=True, kw_only=True)
class ActivationClustering:
    """Position along the line between the centres of two clusters of the class, towards the smaller one.

    Two-means in the leading principal space, started by the sign of the first component, so that nothing is random.
    The published rule calls the smaller cluster poison whatever the data; here a class whose clusters lie less than
    ``separation`` pooled standard deviations apart scores 0 throughout.

    Fields:
        directions: dimension of the principal space.
        separation: least distance of the centres, in pooled standard deviations along their line.

    Reference: Chen et al. Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering. SafeAI 2019.
        arXiv:1811.03728. The guard is ours.
    """

    space: ClassVar[str] = "penultimate"
    needs_trusted: ClassVar[bool] = False
    floor: ClassVar[float] = 0.0
    dispersion: ClassVar[float] = 1.0
    reason: ClassVar[str] = "separated_cluster"

    directions: int = 5
    separation: float = 4.0

    def __post_init__(self) -> None:
        if self.directions < 1 or not self.separation >= 0:
            raise UnfitInput("filters.activation_clustering", repr(self), "directions >= 1, separation >= 0")

    def suspicion(
        self,
        features: Floats,
        labels: Labels,
        *,
        trusted_features: Floats | None = None,
        trusted_labels: Labels | None = None,
    ) -> Floats:
        """Scores (N,) of features (N, D); trusted records are not used."""
        return each_class(features, labels, lambda own: self._positions(leading(own, self.directions)))

    def _positions(self, points: Floats) -> Floats:
        """Distance past the midpoint in units of the pooled spread; 0 where the guard holds."""
        small = two_means(points)
        if not 2 <= small.sum() <= len(points) - 2:
            return np.zeros(len(points))
        inside, outside = points[small].mean(axis=0), points[~small].mean(axis=0)
        gap = float(np.linalg.norm(inside - outside))
        if not gap > 0:
            return np.zeros(len(points))
        along = (points - (inside + outside) / 2) @ ((inside - outside) / gap)
        spread = np.sqrt((small.sum() * along[small].var() + (~small).sum() * along[~small].var()) / (len(points) - 2))
        if gap < self.separation * spread:
            return np.zeros(len(points))
        return np.asarray(along / (spread if spread > 0 else gap))


def two_means(points: Floats) -> npt.NDArray[np.bool_]:
    """Membership (n,) in the smaller of two clusters of points (n, k), whose first column is the leading one."""
    second = points[:, 0] > np.median(points[:, 0])
    for _ in range(ROUNDS):
        if not 0 < second.sum() < len(points):
            break
        centres = points[~second].mean(axis=0), points[second].mean(axis=0)
        nearer = ((points - centres[1]) ** 2).sum(axis=1) < ((points - centres[0]) ** 2).sum(axis=1)
        if (nearer == second).all():
            break
        second = nearer
    return second if second.mean() <= 0.5 else ~second
