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
    Generalization. Neural Networks 5 (1992). Sherman and Morrison. Adjustment of an Inverse Matrix Corresponding to a
    Change in One Element of a Given Matrix. Annals of Mathematical Statistics 21 (1950).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from assay.filters import Floats
from assay.filters._evidence import Bools

FOLDS, ALL, TINY = 5, -1, 1e-6
LEAST_SUSPECTS = 5

__all__ = ["Discriminants", "Stacked", "roots", "shrinkage"]


class Discriminants:
    """Linear discriminants of the rows of one view, for any choice of suspects.

    Products of the rows are computed and factored once, per fold; another choice of suspects then costs one solution a
    fold. The covariance is shrunk as that of all rows, the suspects among them.

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
        parts = [self.rows[self.fold == k] for k in range(FOLDS)]
        self._products, self._sums = [part.T @ part for part in parts], [part.sum(axis=0) for part in parts]
        self._squares = np.array([float((np.einsum("ij,ij->i", part, part) ** 2).sum()) for part in parts])
        self._systems: dict[int, _System] = {}

    def scores(self, suspects: Bools) -> Floats:
        """How far each row lies on the side of the suspects (n,), by a discriminant that was fitted to other rows.

        Units are those of the log-odds of two Gaussians of one covariance, equally likely; 0 for all where there are
        fewer than five suspects, or others.
        """
        scores = np.zeros(len(self.rows))
        if min(suspects.sum(), (~suspects).sum()) < LEAST_SUSPECTS:
            return scores
        for leave in range(FOLDS):
            use, judged = self.fold != leave, self.fold == leave
            if (suspects & use).any() and (~suspects & use).any():
                direction, middle = self._fit(leave, suspects & use)
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
        return self._fit(ALL, suspects)

    def _fit(self, leave: int, few: Bools) -> tuple[Floats, float]:
        """The discriminant of a few rows and the others, without one fold.

        The covariance within is that of all rows less the part between the two means, of rank one (Sherman and Morrison
        1950), so that one factor serves any suspects.
        """
        system = self._system(leave)
        of_few, count = self.rows[few].sum(axis=0), int(few.sum())
        inside, outside = of_few / count, (system.sums - of_few) / (system.size - count)
        apart = inside - outside
        direction = linalg.cho_solve(system.factor, apart)
        between = system.kept * count * (system.size - count) / system.size**2
        direction /= max(1 - between * float(apart @ direction), TINY)
        return direction, float(direction @ (inside + outside) / 2)

    def _system(self, leave: int) -> _System:
        if leave not in self._systems:
            use = [fold for fold in range(FOLDS) if fold != leave]
            products, sums = (np.sum([of[fold] for fold in use], axis=0) for of in (self._products, self._sums))
            squares, size = float(self._squares[use].sum()), int((self.fold != leave).sum())
            self._systems[leave] = _System.of(products, sums, squares, size)
        return self._systems[leave]


@dataclass(frozen=True)
class _System:
    """The shrunk covariance of some rows, factored.

    Fields:
        factor: of the covariance (E, E); kept: the weight of the rows in it, the rest is the mean variance's.
        sums: of the rows (E,); size: how many.
    """

    factor: Any
    kept: float
    sums: Floats
    size: int

    @classmethod
    def of(cls, products: Floats, sums: Floats, fourth: float, size: int) -> _System:
        """Of rows with these products (E, E), sums (E,) and sum of fourth powers of their lengths."""
        covariance = products / size - np.outer(sums / size, sums / size)
        share = shrinkage(covariance, fourth / size, size)
        mean_variance = float(np.trace(covariance)) / len(covariance)
        covariance *= 1 - share
        covariance[np.diag_indices_from(covariance)] += share * mean_variance + 1e-9 * (1 + mean_variance)
        return cls(linalg.cho_factor(covariance, overwrite_a=True), 1 - share, sums, size)


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


def shrinkage(covariance: Floats, fourth: float, size: int) -> float:
    """Weight of the mean variance in the covariance that is nearest to the truth (Ledoit and Wolf 2004).

    Args:
        covariance: (E, E), of centred rows.
        fourth: mean fourth power of their lengths.
        size: how many rows.
    """
    width = len(covariance)
    squares = float(np.vdot(covariance, covariance))
    mean_variance = float(np.trace(covariance)) / width
    noise = (fourth - squares) / (width * size)
    distance = squares / width - mean_variance**2
    return min(1.0, max(noise, 0.0) / distance) if distance > 0 else 1.0
