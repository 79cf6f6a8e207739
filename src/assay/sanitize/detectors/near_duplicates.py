"""How close the nearest other record lies: copies with a little noise pull a model without being equal to anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from assay.errors import UnfitInput
from assay.sanitize.detectors import Floats, Labels, Scorer
from assay.sanitize.detectors.scaling import Scaling

__all__ = ["NearDuplicates"]


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Minus the root-mean-square distance to the nearest other record, features in units of their robust scale.

    Exact copies score 0, the highest there is. Whether that is much is for trusted records to say, whose nearest
    neighbours among the records under test lie as far as honest records do.
    """

    reason: ClassVar[str] = "near_duplicate"
    fits: ClassVar[Literal["trusted", "records"]] = "records"

    def fit(self, x: Floats, y: Labels, *, seed: int) -> Scorer:
        """See `Detector.fit`."""
        from sklearn.neighbors import NearestNeighbors

        if len(x) < 2:
            raise UnfitInput("near_duplicates", f"{len(x)} records", "at least 2")
        scaling = Scaling.of(x)
        index = NearestNeighbors(n_neighbors=2).fit(np.clip(scaling(x), -1e6, 1e6))

        def score(x: Floats, y: Labels, *, same: bool = False) -> Floats:
            distance = index.kneighbors(np.clip(scaling(x), -1e6, 1e6))[0][:, 1 if same else 0]
            return np.asarray(-distance / np.sqrt(x.shape[1]))

        return score
