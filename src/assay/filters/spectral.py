"""Spectral signatures: how far a record lies along the leading directions of its class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.filters._linear import each_class, leading

__all__ = ["Spectral"]


@dataclass(frozen=True, kw_only=True)
class Spectral:
    """Squared projection of the CENTRED record on the leading principal directions of its class.

    With one direction this is the score of the paper, its equation (1). Constant features score 0.

    Fields:
        directions: how many leading directions are summed; 1 in the paper.

    Reference: Tran, Li and Madry. Spectral Signatures in Backdoor Attacks. NeurIPS 2018. arXiv:1811.00636.
    """

    space: ClassVar[str] = "penultimate"
    needs_trusted: ClassVar[bool] = False
    floor: ClassVar[float] = 0.0
    dispersion: ClassVar[float] = 1.0
    reason: ClassVar[str] = "spectral_outlier"

    directions: int = 1

    def __post_init__(self) -> None:
        if self.directions < 1:
            raise UnfitInput("filters.spectral: directions", str(self.directions), "1 or more")

    def suspicion(
        self,
        features: Floats,
        labels: Labels,
        *,
        trusted_features: Floats | None = None,
        trusted_labels: Labels | None = None,
    ) -> Floats:
        """Scores (N,) of features (N, D); trusted records are not used."""
        return each_class(features, labels, lambda own: np.asarray((leading(own, self.directions) ** 2).sum(axis=1)))
