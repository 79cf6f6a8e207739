"""Whether one origin's records of a class lie elsewhere than the others', all of them taken together.

A trigger in a few of a source's records moves the mean of all its records of that class. One record says little of it
in hundreds of dimensions, the mean of hundreds says much. Rows are whitened by the covariance within classes, of all
classes together, in which the records of one sub-population of one class weigh little; the statistic is the squared
distance between the mean of an origin and that of the others of its class, Hotelling's with that covariance.

Origins are permuted like for every other detector (`assay.filters.decide`), so that the level is exact whatever the
distribution. To stand beside their likelihood ratios the statistic is given as the surprise, in nats, of a scaled
chi-squared distribution with the mean and the variance that it has over all permutations, both in closed form.

Reference: Hotelling. The Generalization of Student's Ratio. Annals of Mathematical Statistics 2 (1931). Moments:
    Kazi-Aoual, Hitier, Sabatier and Lebreton. Refined Approximations to Permutation Tests for Multivariate Inference.
    Computational Statistics and Data Analysis 20 (1995), 643-656. Normal approximation: Wilson and Hilferty. The
    Distribution of Chi-Square. PNAS 17 (1931).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg
from scipy.special import log_ndtr

from assay.filters import Floats, Labels

RIDGE = 0.01
DIGITS = 4
"""Of the surprise: what differs by less, as one product in another order does, is a tie."""

Rows = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

__all__ = ["Shift", "whitening"]


def whitening(blocks: Iterator[tuple[npt.NDArray[Any], Labels]], width: int) -> Callable[[npt.NDArray[Any]], Rows]:
    """What makes the covariance within classes the identity, a hundredth of the mean variance added to each variance.

    Args:
        blocks: rows (n, E) and their labels (n,), part by part.
        width: E.

    Returns:
        From rows (m, E) to rows (m, E), float32; all zero where no column ever varies within a class.
    """
    products = np.zeros((width, width))
    sums: dict[int, Floats] = {}
    counts: dict[int, int] = {}
    for rows, labels in blocks:
        part = rows.astype(np.float64, copy=False)
        products += part.T @ part
        found, code = np.unique(labels, return_inverse=True)
        member = (np.arange(len(found))[:, None] == code).astype(np.float64)
        for label, total, count in zip(found.tolist(), member @ part, member.sum(axis=1), strict=True):
            sums[label] = sums.get(label, np.zeros(width)) + total
            counts[label] = counts.get(label, 0) + int(count)
    size = sum(counts.values())
    for label, total in sums.items():
        products -= np.outer(total, total) / counts[label]
    mean_variance = float(np.trace(products)) / max(size * width, 1)
    squares = sum(float(total @ total) / counts[label] for label, total in sums.items())
    if not mean_variance * size * width > 1e-12 * max(squares, 1e-300):
        return lambda rows: np.zeros(rows.shape, dtype=np.float32)
    centre = np.asarray(sum(sums.values()) / size)
    products[np.diag_indices(width)] += RIDGE * mean_variance * size
    factor = linalg.cholesky(products / size, lower=True)
    turn = linalg.solve_triangular(factor, np.eye(width), lower=True).T.astype(np.float32)
    middle = centre.astype(np.float32)
    return lambda rows: np.asarray((rows.astype(np.float32, copy=False) - middle) @ turn)


@dataclass(frozen=True)
class Shift:
    """The rows of one class, whitened and centred (n, E), and what permuting origins makes of them."""

    rows: Rows

    @classmethod
    def of(cls, rows: Rows) -> Shift:
        """Of whitened rows (n, E)."""
        return cls(rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32))

    def surprise(self, inside: Bools) -> Floats:
        """How far the origin's mean is from the others', (P,) nats, for each choice of its records (P, n).

        All choices are of one size. 0 where no permutation could differ.
        """
        size, own = inside.shape[1], int(inside[0].sum())
        mean, variance = self._moments(own)
        if not (mean > 0 and variance > 0):
            return np.zeros(len(inside))
        sums = (inside.astype(np.float32) @ self.rows).astype(np.float64)
        distance = np.einsum("ij,ij->i", sums, sums) * size / (own * (size - own))
        spread = variance / (9 * mean**2)
        return np.asarray(np.round(-log_ndtr(-(np.cbrt(distance / mean) - 1 + spread) / np.sqrt(spread)), DIGITS))

    def along(self, own: Bools, others: Bools) -> Floats:
        """How far every row lies on the origin's side of the middle between the two means (n,), in spreads.

        Each row is left out of the mean that it is compared with, so that it does not vouch for itself.
        """
        means = [self.rows[side].mean(axis=0, dtype=np.float64) for side in (own, others)]
        near, far = (self._distances(side, mean) for side, mean in zip((own, others), means, strict=True))
        length = float(np.linalg.norm(means[0] - means[1]))
        return (far - near) / (2 * length) if length > 0 else np.zeros(len(self.rows))

    def _distances(self, side: Bools, mean: Floats) -> Floats:
        """Squared distances of all rows (n,) from the mean of one side, without themselves where they are of it."""
        found = self._lengths - 2 * (self.rows @ mean.astype(np.float32)) + float(mean @ mean)
        count = int(side.sum())
        return np.asarray(np.where(side, found * (count / max(count - 1, 1)) ** 2, found))

    @cached_property
    def _lengths(self) -> Floats:
        return np.asarray(np.einsum("ij,ij->i", self.rows, self.rows, dtype=np.float64))

    @cached_property
    def _sums(self) -> tuple[float, float, float]:
        """Sums of the rows' squared lengths, of their inner products squared, and of their lengths to the fourth."""
        product = self.rows.T @ self.rows if self.rows.shape[1] < len(self.rows) else self.rows @ self.rows.T
        squares = float((product.astype(np.float64) ** 2).sum())
        return float(self._lengths.sum()), squares, float((self._lengths**2).sum())

    def _moments(self, own: int) -> tuple[float, float]:
        """Mean and variance of the distance over all choices of so many rows; 0 for fewer than four rows."""
        n, (trace, squares, fourths) = len(self.rows), self._sums
        if n < 4 or not 0 < own < n:
            return 0.0, 0.0
        fourth = ((n - own) ** 3 + own**3) / (own * (n - own) * n**2)
        even = 2 * ((n - 1) * squares - trace**2) / ((n - 1) ** 2 * (n + 1))
        peaks = n * (n + 1) * fourths - (n - 1) * (trace**2 + 2 * squares)
        uneven = n * (n + 1) * fourth - 3 * (n - 1)
        return trace / (n - 1), even + peaks * uneven / ((n + 1) * n * (n - 1) * (n - 2) * (n - 3))
