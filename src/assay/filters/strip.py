"""STRIP: what a network still says of a picture when others are laid over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from assay.filters import Floats, Labels
from assay.filters._linear import checked

__all__ = ["Strip"]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Mean entropy of the proxy's answers for the record under other records, with its sign turned.

    A record whose content decides is answered differently under each overlay; one whose trigger decides is answered the
    same under all of them, so that its entropy is low. Made for triggers that survive an overlay.

    Reference: Gao et al. STRIP: A Defence Against Trojan Attacks on Deep Neural Networks. ACSAC 2019. arXiv:1902.06531,
        equation (4); there of a model in service, here of a proxy and its training records.
    """

    space: ClassVar[str] = "superimposed"
    needs_trusted: ClassVar[bool] = False
    floor: ClassVar[float] = float("-inf")
    dispersion: ClassVar[float] = 1.0
    reason: ClassVar[str] = "same_under_overlays"

    def suspicion(
        self,
        features: Floats,
        labels: Labels,
        *,
        trusted_features: Floats | None = None,
        trusted_labels: Labels | None = None,
    ) -> Floats:
        """Scores (N,) of entropies (N, P), one an overlay; trusted records are not used."""
        x, _ = checked(features, labels)
        return np.asarray(-x.mean(axis=1))
