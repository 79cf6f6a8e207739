"""Pearson's chi-square: have the shares of categories changed, or has one come that was never there?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from assay.drift.feature import Kind, Measured, Values
from assay.drift.tables import LEAST_EXPECTED, Counts, counts, expected, permutation_p
from assay.errors import UnfitInput

__all__ = ["ChiSquare"]


@dataclass(frozen=True, kw_only=True)
class ChiSquare:
    """The test of homogeneity of two rows of counts over every category that either sample holds.

    Fields:
        least_expected: with at least this many expected in every cell the p-value is that of the chi-square
            distribution, else that of the permutation distribution, which holds for rare and for unseen categories.

    Call with:
        reference, current: (n,) and (m,) text, at least one each.
        level: at which the p-value will be compared.
        generator: of the permutations.

    Raises:
        UnfitInput: no value, or a level that permutations cannot reach.

    Reference: Pearson, Philosophical Magazine 50 (1900), 157-175.
    """

    speaks: ClassVar[tuple[Kind, ...]] = ("category",)
    least_expected: float = LEAST_EXPECTED

    def __post_init__(self) -> None:
        if not self.least_expected > 0:
            raise UnfitInput("drift.chi2: least_expected", str(self.least_expected), "more than 0")

    def __call__(self, reference: Values, current: Values, *, level: float, generator: np.random.Generator) -> Measured:
        """Statistic and p-value; see the class."""
        before, now = counts(reference, current, 1)
        value = float(_pearson(before[None], now[None])[0])
        if len(before) == 1:
            return Measured(value=0.0, p_value=1.0)
        if expected(before, now) >= self.least_expected:
            p_value = max(float(chi2.sf(value, len(before) - 1)), np.finfo(np.float64).tiny)
        else:
            p_value = permutation_p(_pearson, before, now, level=level, generator=generator)
        return Measured(value=value, p_value=p_value, null_quantile=float(chi2.isf(level, len(before) - 1)))


def _pearson(reference: Counts, current: Counts) -> npt.NDArray[np.float64]:
    """The statistic of (B, K) tables whose columns sum to more than 0, (B,)."""
    n, m = reference.sum(-1, keepdims=True), current.sum(-1, keepdims=True)
    pooled = (reference + current) / (n + m)
    parts = (reference - n * pooled) ** 2 / (n * pooled) + (current - m * pooled) ** 2 / (m * pooled)
    return np.asarray(parts.sum(-1), dtype=np.float64)
