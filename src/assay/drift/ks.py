"""Kolmogorov and Smirnov: has the distribution of a number changed anywhere?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import ks_2samp

from assay.drift.feature import Kind, Measured, Values
from assay.drift.tables import require_values
from assay.errors import UnfitInput

__all__ = ["KolmogorovSmirnov"]


@dataclass(frozen=True, kw_only=True)
class KolmogorovSmirnov:
    """The two-sample test on the greatest distance of the empirical distribution functions.

    Fields:
        exact_up_to: with at most this many values in the larger sample the p-value is exact, else asymptotic. With
            ties it is larger than exact, never smaller.

    Call with:
        reference, current: (n,) and (m,) float64, finite, at least one each.
        level: at which the p-value will be compared; plays no part here.
        generator: plays no part here.

    Raises:
        UnfitInput: no value, or one that is not finite.

    Reference: Hodges, Arkiv foer Matematik 3 (1958), 469-486.
    """

    speaks: ClassVar[tuple[Kind, ...]] = ("number",)
    exact_up_to: int = 10_000

    def __post_init__(self) -> None:
        if self.exact_up_to < 0:
            raise UnfitInput("drift.ks: exact_up_to", str(self.exact_up_to), "0 or more")

    def __call__(self, reference: Values, current: Values, *, level: float, generator: np.random.Generator) -> Measured:
        """Distance and p-value; see the class."""
        require_values(reference, current)
        method = "exact" if max(len(reference), len(current)) <= self.exact_up_to else "asymp"
        found = ks_2samp(reference, current, method=method)
        return Measured(value=float(found.statistic), p_value=max(float(found.pvalue), np.finfo(np.float64).tiny))
