"""How much a picture looks as if it, or parts of it, had been moved by less than a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.filters._linear import checked

__all__ = ["Resampled"]


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Log-odds that the picture was resampled, by a discriminant that was learned from moved copies of all pictures.

    A warp shows here whatever its field, its label and its content. So does an honest source that scales its pictures,
    in every class: `assay.filters.decide` sets aside what is said of one source in several classes, and with it a warp
    of several classes at once.

    Reference: `assay.filters._resampling`.
    """

    space: ClassVar[str] = "resampling"
    needs_trusted: ClassVar[bool] = False
    floor: ClassVar[float] = float("-inf")
    dispersion: ClassVar[float] = 1.0
    reason: ClassVar[str] = "resampled_picture"

    def suspicion(
        self,
        features: Floats,
        labels: Labels,
        *,
        trusted_features: Floats | None = None,
        trusted_labels: Labels | None = None,
    ) -> Floats:
        """Scores (N,) of log-odds (N, 1); trusted records are not used.

        Raises:
            UnfitInput: features of no column.
        """
        x, _ = checked(features, labels)
        if not x.shape[1]:
            raise UnfitInput("log-odds of a moved copy", "no column", "one")
        return np.asarray(x.mean(axis=1))
