"""How far a record lies along the directions in which its class varies more than its own majority does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import linalg
from scipy.stats import chi2

from assay.errors import UnfitInput
from assay.filters import Floats, Labels
from assay.filters._linear import each_class, leading, scatter

ROUNDS = 20

__all__ = ["QuantumEntropy", "entropy_score", "robust_whitening"]


@dataclass(frozen=True, kw_only=True)
class QuantumEntropy:
    """Quantum entropy score of records whitened by a robust covariance of their class: SPECTRE.

    Poison inflates the variance along its direction. Whitened by what the majority of the class does, the class as a
    whole still varies more than one along it, and the score weighs every direction by the exponential of that excess:
    between the squared length (``alpha`` 0) and the squared projection on the one worst direction (``alpha`` infinite).

    The paper estimates the covariance by the filter of Diakonikolas et al. (2017) with the share of poison known. Here
    the share is unknown, and the estimate is by concentration steps on a fixed majority (Rousseeuw and Van Driessen
    1999), from the coordinates' medians, so that nothing is drawn at random.

    Fields:
        directions: dimension of the principal space, as `trusted_mahalanobis` has it.
        alpha: of the score, 4 in the paper.
        majority: share of the records that the covariance is of, in [0.5, 1].
        ridge: share of the mean variance mixed into it, in (0, 1].

    Reference: Hayase, Kong, Somani and Oh. SPECTRE: Defending Against Backdoor Attacks Using Robust Statistics. ICML
        2021. arXiv:2104.11315, algorithms 2 and 3.
    """

    space: ClassVar[str] = "penultimate"
    needs_trusted: ClassVar[bool] = False
    floor: ClassVar[float] = 0.0
    dispersion: ClassVar[float] = 1.0
    reason: ClassVar[str] = "excess_variance"

    directions: int = 15
    alpha: float = 4.0
    majority: float = 0.75
    ridge: float = 0.01

    def __post_init__(self) -> None:
        within = self.alpha >= 0 and 0.5 <= self.majority <= 1 and 0 < self.ridge <= 1
        if self.directions < 1 or not within:
            need = "directions >= 1, alpha >= 0, majority in [0.5, 1], ridge in (0, 1]"
            raise UnfitInput("filters.quantum_entropy", repr(self), need)

    def suspicion(
        self,
        features: Floats,
        labels: Labels,
        *,
        trusted_features: Floats | None = None,
        trusted_labels: Labels | None = None,
    ) -> Floats:
        """Scores (N,) of features (N, D); trusted records are not used."""
        return each_class(features, labels, self._scores)

    def _scores(self, own: Floats) -> Floats:
        return entropy_score(robust_whitening(leading(own, self.directions), self.majority, self.ridge), self.alpha)


def robust_whitening(points: Floats, majority: float, ridge: float) -> Floats:
    """Points (n, k) centred and whitened by the mean and covariance of the majority nearest to its own centre.

    The covariance is scaled so that the median squared distance is that of a Gaussian.
    """
    count = max(2, int(np.ceil(majority * len(points))))
    centred = points - np.median(points, axis=0)
    spread = np.median(np.abs(centred), axis=0)
    scale = np.where(spread > 0, spread, np.maximum(centred.std(axis=0), np.finfo(np.float64).tiny))
    distances = ((centred / scale) ** 2).sum(axis=1)
    whitened, near = np.zeros_like(points), np.empty(0, dtype=np.int64)
    for _ in range(ROUNDS):
        nearest = np.flatnonzero(distances <= np.partition(distances, min(count, len(points)) - 1)[count - 1 : count])
        if np.array_equal(nearest, near) or len(points) < 2:
            break
        near = nearest
        mean, _, gram = scatter(points[near])
        covariance = gram / max(1, len(near) - 1)
        size = np.trace(covariance) / len(covariance)
        if not size > 0:
            return np.zeros_like(points)
        covariance = (1 - ridge) * covariance + ridge * size * np.eye(len(covariance))
        factor = linalg.cholesky(covariance, lower=True)
        whitened = linalg.solve_triangular(factor, (points - mean).T, lower=True).T
        distances = (whitened**2).sum(axis=1)
    middle = float(np.median(distances))
    return whitened * np.sqrt(chi2.ppf(0.5, points.shape[1]) / middle) if middle > 0 else whitened


def entropy_score(whitened: Floats, alpha: float) -> Floats:
    """Scores (n,) of whitened rows h (n, k) with covariance S: h' Q h / tr Q, Q = exp(alpha (S - I) / (||S|| - 1)).

    Where no direction exceeds variance 1, Q is the identity.
    """
    covariance = whitened.T @ whitened / max(1, len(whitened))
    values, vectors = linalg.eigh(covariance)
    excess = float(values[-1]) - 1
    weights = np.exp(alpha * (values - values[-1]) / excess) if excess > 0 else np.ones_like(values)
    return np.asarray(((whitened @ vectors) ** 2) @ (weights / weights.sum()))
