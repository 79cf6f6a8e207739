"""What a model that never saw the record's source says against its label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.filters._linear import checked

__all__ = ["Disagreement"]


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Log-odds of the likeliest other class against the given label, by a held-out model.

    Positive where another class is likelier. A record that was relabelled, with or without a trigger, looks to a model
    that never learned the trigger like the class it came from. Clean-label poison does not show here.

    Reference: the margin of confident learning, Northcutt, Jiang and Chuang. Confident Learning: Estimating Uncertainty
        in Dataset Labels. JAIR 70 (2021), 1373-1411; holding out whole sources is ours.
    """

    space: ClassVar[str] = "held_out"
    needs_trusted: ClassVar[bool] = False
    floor: ClassVar[float] = 0.0
    dispersion: ClassVar[float] = 2.0
    reason: ClassVar[str] = "label_disagreement"

    def suspicion(
        self,
        features: Floats,
        labels: Labels,
        *,
        trusted_features: Floats | None = None,
        trusted_labels: Labels | None = None,
    ) -> Floats:
        """Scores (N,) of class log-probabilities (N, K); trusted records are not used.

        Raises:
            UnfitInput: a label outside the K columns, or a single class.
        """
        x, y = checked(features, labels)
        if x.shape[1] < 2 or y.min() < 0 or y.max() >= x.shape[1]:
            raise UnfitInput(
                "log-probabilities", f"{x.shape[1]} columns, labels to {y.max()}", "one column a class, 2+"
            )
        rows = np.arange(len(x))
        others = x.copy()
        others[rows, y] = -np.inf
        return np.asarray(others.max(axis=1) - x[rows, y])
