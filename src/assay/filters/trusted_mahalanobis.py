"""Distance from the trusted records of the class, in the principal space of all its records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from scipy import linalg

from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.filters._linear import by_class, checked, principal, scatter

__all__ = ["Frame", "TrustedMahalanobis", "within"]


@dataclass(frozen=True, kw_only=True)
class TrustedMahalanobis:
    """Squared Mahalanobis distance, centred and whitened by TRUSTED records of the class.

    The space is spanned by the leading principal directions of the records under test, poison included: a
    sub-population large enough to matter bends it, and trusted records, which hold none of it, have little spread
    there. The covariance is shrunk, with the weight of ``prior`` records, towards the within-class covariance of all
    classes and towards its own mean variance, so that twenty trusted records suffice.

    Fields:
        directions: dimension of the principal space.
        prior: weight, in records, of the within-class covariance of all classes.
        ridge: share of the mean variance mixed in, in (0, 1].
    """

    space: ClassVar[str] = "penultimate"
    needs_trusted: ClassVar[bool] = True
    floor: ClassVar[float] = 0.0
    dispersion: ClassVar[float] = 1.0
    reason: ClassVar[str] = "far_from_trusted"

    directions: int = 15
    prior: float = 10.0
    ridge: float = 0.1

    def __post_init__(self) -> None:
        if self.directions < 1 or not self.prior >= 0 or not 0 < self.ridge <= 1:
            raise UnfitInput("filters.trusted_mahalanobis", repr(self), "directions >= 1, prior >= 0, ridge in (0, 1]")

    def suspicion(
        self,
        features: Floats,
        labels: Labels,
        *,
        trusted_features: Floats | None = None,
        trusted_labels: Labels | None = None,
    ) -> Floats:
        """Scores (N,) of features (N, D) against trusted (T, D).

        Raises:
            UnfitInput: no trusted records, another width, or a class with fewer than two of them.
        """
        x, y = checked(features, labels)
        if trusted_features is None or trusted_labels is None:
            raise UnfitInput("filters.trusted_mahalanobis", "no trusted records", "some of every class")
        reference, reference_labels = checked(trusted_features, trusted_labels, "trusted features")
        if reference.shape[1] != x.shape[1]:
            raise UnfitInput("trusted features", f"{reference.shape[1]} columns", f"{x.shape[1]}, as the features have")
        pooled = within(reference, reference_labels)
        scores = np.zeros(len(x))
        for label, rows in by_class(y):
            _, _, gram = scatter(x[rows])
            frame = self.frame(gram, reference[reference_labels == label], pooled, label)
            scores[rows] = frame.distances(x[rows])
        return scores

    def frame(self, gram: Floats, own: Floats, pooled: Floats, label: int) -> Frame:
        """Where the records of a class are measured.

        Args:
            gram: (D, D), of the centred records under test of the class.
            own: (t, D), the trusted records of the class.
            pooled: (D, D), see `within`.
            label: of the class.

        Raises:
            UnfitInput: fewer than two trusted records.
        """
        if len(own) < 2:
            raise UnfitInput("trusted features", f"{len(own)} records of class {label}", "at least 2")
        basis = principal(gram, self.directions)
        inside = scatter(own @ basis)[2]
        covariance = (inside + self.prior * basis.T @ pooled @ basis) / (len(own) - 1 + self.prior)
        size = len(covariance)
        scale = np.trace(covariance) / size
        if not scale > 0:
            return Frame(own.mean(axis=0), basis, np.eye(size))
        covariance = (1 - self.ridge) * covariance + self.ridge * scale * np.eye(size)
        return Frame(own.mean(axis=0), basis, linalg.cholesky(covariance, lower=True))


class Frame(NamedTuple):
    """Where a class is measured from: trusted mean (D,), basis (D, k), lower factor of the covariance (k, k)."""

    mean: Floats
    basis: Floats
    factor: Floats

    def distances(self, rows: Floats) -> Floats:
        """Squared Mahalanobis distances (n,) of rows (n, D)."""
        whitened = linalg.solve_triangular(self.factor, ((rows - self.mean) @ self.basis).T, lower=True)
        return np.asarray((whitened**2).sum(axis=0))


def within(reference: Floats, labels: Labels) -> Floats:
    """Within-class covariance (D, D) of all classes together."""
    grams = [scatter(reference[rows])[2] for _, rows in by_class(labels)]
    freedom = max(1, len(reference) - len(grams))
    pooled: Floats = np.sum(grams, axis=0) / freedom
    return pooled
