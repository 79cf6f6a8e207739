"""From some suspects to all of their kind: the direction that tells them from the other origins, found again and again.

A detector is made to notice a sub-population, not to bound it: its score mixes the poison with the hardest clean
records. Once a sub-population is found, its first suspects say where it lies. The linear discriminant between them and
the rest, in all that the proxies said of a record, is then a far sharper score, and a new cut along it gives better
suspects. Suspects that are missing or wrong among the first bend the discriminant's length and hardly its direction: a
share of swapped labels changes the difference of the means by a factor, and the covariance within by a multiple of that
difference's square, which leaves the direction as it is.

Every record is scored by a discriminant that was fitted to other folds of records, so that a clean record among the
suspects does not vouch for itself.

Of few suspects a direction in hundreds of dimensions is learned badly: it places the suspects it was shown and loses
others of their kind. What all views say, and what the detectors said to begin with, are few numbers a record, and how
much each of them is worth can be learned from few suspects (Wolpert 1992).

Reference: Fisher. The Use of Multiple Measurements in Taxonomic Problems. 1936; the covariance is shrunk after Ledoit
    and Wolf. A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices. 2004. Wolpert. Stacked
    Generalization. Neural Networks 5 (1992).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from assay.filters import Floats
from assay.filters._evidence import Bools

FOLDS = 5
LEAST_SUSPECTS = 5

__all__ = ["Discriminants", "Stacked", "roots", "shrinkage"]


class Discriminants:
    """Linear discriminants of the rows of one view, for any choice of suspects.

    Products of the rows are computed once, per fold; another choice of suspects then costs one solved system a fold.

    Fields:
        rows: (n, E), every column with mean 0 and spread 1 or 0.
        fold: (n,), dealt by a fixed permutation.
    """

    def __init__(self, view: npt.NDArray[np.floating[Any]]) -> None:
        rows = view.astype(np.float64)
        self._mean = rows.mean(axis=0)
        rows -= self._mean
        spread = rows.std(axis=0)
        self._spread = np.where(spread > 1e-9 * np.abs(rows).max(axis=0, initial=0), spread, np.inf)
        self.rows: Floats = rows / self._spread
        self.fold = np.random.default_rng(0).permutation(len(rows)) % FOLDS
        self._products = [self.rows[self.fold == k].T @ self.rows[self.fold == k] for k in range(FOLDS)]

    def scores(self, suspects: Bools) -> Floats:
        """How far each row lies on the side of the suspects (n,), by a discriminant that was fitted to other rows.

        Units are those of the log-odds of two Gaussians of one covariance, equally likely; 0 for all where there are
        fewer than five suspects, or others.
        """
        scores = np.zeros(len(self.rows))
        if min(suspects.sum(), (~suspects).sum()) < LEAST_SUSPECTS:
            return scores
        total = np.sum(self._products, axis=0)
        for leave in range(FOLDS):
            use, judged = self.fold != leave, self.fold == leave
            if (suspects & use).any() and (~suspects & use).any():
                direction, middle = self._fit(total - self._products[leave], suspects, use)
                scores[judged] = self.rows[judged] @ direction - middle
        return scores

    def judge(self, rows: npt.NDArray[np.floating[Any]], suspects: Bools) -> Floats:
        """How far other rows of the view (m, E) lie on the side of the suspects among these (m,), as in `scores`."""
        if min(suspects.sum(), (~suspects).sum()) < LEAST_SUSPECTS:
            return np.zeros(len(rows))
        return self.along(rows, *self.direction(suspects))

    def along(self, rows: npt.NDArray[np.floating[Any]], direction: Floats, middle: float) -> Floats:
        """How far other rows of the view (m, E) lie beyond the middle of a discriminant, as `direction` gives both."""
        return np.asarray((rows - self._mean) / self._spread @ direction - middle)

    def direction(self, suspects: Bools) -> tuple[Floats, float]:
        """The discriminant (E,) that is fitted to all rows, and the projection of the midpoint of the two means."""
        return self._fit(np.sum(self._products, axis=0), suspects, np.ones(len(self.rows), dtype=np.bool_))

    def _fit(self, products: Floats, suspects: Bools, use: Bools) -> tuple[Floats, float]:
        inside, outside = self.rows[suspects & use].mean(axis=0), self.rows[~suspects & use].mean(axis=0)
        means = np.stack([inside, outside])
        counts = np.array([(suspects & use).sum(), (~suspects & use).sum()])
        size = int(use.sum())
        covariance = (products - (means.T * counts) @ means) / size
        centred = self.rows[use] - means[(~suspects[use]).astype(np.int64)]
        share = shrinkage(covariance, (centred**2).sum(axis=1))
        mean_variance = float(np.trace(covariance)) / len(covariance)
        covariance *= 1 - share
        covariance[np.diag_indices_from(covariance)] += share * mean_variance + 1e-9 * (1 + mean_variance)
        direction = linalg.cho_solve(linalg.cho_factor(covariance), inside - outside)
        return direction, float(direction @ (inside + outside) / 2)


class Stacked:
    """One discriminant over what those of all views say of a record, and over what the detectors said of it.

    Fields:
        fitted: the discriminants of the views, of the same rows.
        beside: (n, D), the detectors' scores, see `roots`.
    """

    def __init__(self, fitted: Sequence[Discriminants], beside: Floats) -> None:
        self.fitted, self.beside = tuple(fitted), beside

    def scores(self, suspects: Bools) -> Floats:
        """As `Discriminants.scores`; the views' scores are of discriminants that were fitted to other rows, too."""
        return self._over(suspects).scores(suspects)

    def judge(self, views: Sequence[npt.NDArray[np.floating[Any]]], beside: Floats, suspects: Bools) -> Floats:
        """As `Discriminants.judge`, of other rows in every view (m, E) and of their detectors' scores (m, D)."""
        said = [one.judge(rows, suspects) for one, rows in zip(self.fitted, views, strict=True)]
        return self._over(suspects).judge(np.column_stack([*said, beside]), suspects)

    def _over(self, suspects: Bools) -> Discriminants:
        return Discriminants(np.column_stack([*(one.scores(suspects) for one in self.fitted), self.beside]))


def roots(scores: Sequence[Floats], records: int) -> Floats:
    """Detectors' scores (n,) side by side (n, D), as signed square roots: squares and log-odds have long tails."""
    return np.array([np.sign(score) * np.sqrt(np.abs(score)) for score in scores]).reshape(-1, records).T


def shrinkage(covariance: Floats, lengths: Floats) -> float:
    """Weight of the mean variance in the covariance that is nearest to the truth (Ledoit and Wolf 2004).

    Args:
        covariance: (E, E), of centred rows.
        lengths: (n,), the squared length of each row.
    """
    size, width = len(lengths), len(covariance)
    squares = float((covariance**2).sum())
    mean_variance = float(np.trace(covariance)) / width
    noise = (float((lengths**2).mean()) - squares) / (width * size)
    distance = squares / width - mean_variance**2
    return min(1.0, max(noise, 0.0) / distance) if distance > 0 else 1.0
