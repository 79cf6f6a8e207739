"""How many of a record's nearest neighbours carry another label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.neighbors import NearestNeighbors

from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.filters._linear import checked

__all__ = ["Neighbours"]


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Share of the ``k`` nearest other records, all classes together, whose label differs.

    In the held-out space a relabelled record lies among the class it came from. Ties in distance at the edge of the
    neighbourhood count in proportion, so that the order of rows does not matter.

    Fields:
        k: neighbours asked; at most the other records there are.

    Reference: Peri et al. Deep k-NN Defense against Clean-label Data Poisoning Attacks. ECCV Workshops 2020.
        arXiv:1909.13374.
    """

    space: ClassVar[str] = "held_out"
    needs_trusted: ClassVar[bool] = False
    floor: ClassVar[float] = 0.5
    dispersion: ClassVar[float] = 2.0
    reason: ClassVar[str] = "neighbour_disagreement"

    k: int = 15

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UnfitInput("filters.neighbours: k", str(self.k), "1 or more")

    def suspicion(
        self,
        features: Floats,
        labels: Labels,
        *,
        trusted_features: Floats | None = None,
        trusted_labels: Labels | None = None,
    ) -> Floats:
        """Scores (N,) in [0, 1] of features (N, D); trusted records are not used."""
        x, y = checked(features, labels)
        k = min(self.k, len(x) - 1)
        if k < 1:
            return np.zeros(len(x))
        search = NearestNeighbors(algorithm="auto").fit(x)
        distances, found = search.kneighbors(n_neighbors=min(2 * k, len(x) - 1), return_distance=True)
        edges = distances[:, k - 1]
        differs = y[found] != y[:, None]
        tie = np.isclose(distances, edges[:, None], rtol=1e-9, atol=0)
        inside = (distances < edges[:, None]) & ~tie
        sure, ties = inside.sum(axis=1), tie.sum(axis=1)
        return np.asarray(((differs & inside).sum(axis=1) + (k - sure) * (differs & tie).sum(axis=1) / ties) / k)
