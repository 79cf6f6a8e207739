"""Population stability index: how far apart are two distributions, in the unit people set their limits in?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import chi2

from assay.drift import tables
from assay.drift.feature import Kind, Measured, Values
from assay.errors import UnfitInput

__all__ = ["PopulationStability"]


@dataclass(frozen=True, kw_only=True)
class PopulationStability:
    """The symmetrised Kullback-Leibler divergence of binned shares, with the chance of such a value by luck alone.

    The index has no fixed limit: of two equal worlds it is about ``(1/n + 1/m)`` times a chi-square variable of
    ``K - 1`` degrees, so that 0.25 means much on 10,000 records and nothing on 50. ``null_quantile`` is that limit at
    the level asked for (large samples); the p-value comes from permutations and holds for all.

    Fields:
        bins: cells of equal shares of both samples together, for numbers.

    Call with:
        reference, current: (n,) and (m,), float64 or text, at least one each, finite.
        level: at which the p-value will be compared.
        generator: of the permutations.

    Raises:
        UnfitInput: no value, one that is not finite, or a level that permutations cannot reach.

    Reference: Yurdakul and Naranjo, Statistical properties of the population stability index, Journal of Risk Model
        Validation 14 (2020), 89-100.
    """

    speaks: ClassVar[tuple[Kind, ...]] = ("number", "category")
    bins: int = 10

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise UnfitInput("drift.psi: bins", str(self.bins), "at least 2")

    def __call__(self, reference: Values, current: Values, *, level: float, generator: np.random.Generator) -> Measured:
        """Index, p-value and null quantile; see the class."""
        before, now = tables.counts(reference, current, self.bins)
        if len(before) == 1:
            return Measured(value=0.0, p_value=1.0, null_quantile=0.0)
        value = float(tables.psi(before, now))
        scale, degrees = 1 / len(reference) + 1 / len(current), len(before) - 1
        quantile = scale * float(chi2.isf(level, degrees))
        p_value = tables.permutation_p(tables.psi, before, now, level=level, generator=generator)
        return Measured(value=value, p_value=p_value, null_quantile=quantile)
