"""Two samples as counts over common cells, and what such counts do when nothing has changed.

Given the counts of both samples together, and their sizes, the current counts of an unchanged world are a draw without
replacement from the pooled records (the permutation distribution). It holds for every sample size and with ties.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from assay.drift.feature import Values
from assay.errors import UnfitInput

Counts = npt.NDArray[np.int64]
FIRST_LOOK, ENOUGH, PER_LEVEL, MOST, CHUNK = 999, 100, 10, 500_000, 50_000
LEAST_EXPECTED = 25.0

__all__ = ["LEAST_EXPECTED", "Counts", "counts", "expected", "permutation_p", "psi"]


def counts(reference: Values, current: Values, bins: int) -> tuple[Counts, Counts]:
    """Counts of both samples over common cells: categories, or ``bins`` cells of equal shares of both together.

    Cells come from the pooled values, so which sample is which plays no part in them. Tied quantiles become one edge.

    Args:
        reference: (n,) float64 or text; at least one value, all finite.
        current: (m,) as the reference.
        bins: cells for numbers.

    Returns:
        Two (K,) vectors; K may be 1 when all values are equal.
    """
    require_values(reference, current)
    pooled = np.concatenate([reference, current])
    if reference.dtype.kind in "US":
        names, cell = np.unique(pooled, return_inverse=True)
        size = len(names)
    else:
        edges = np.unique(np.quantile(pooled, np.arange(1, bins) / bins, method="inverted_cdf"))
        cell = np.searchsorted(edges, pooled, side="left")
        size = len(edges) + 1
    cut = len(reference)
    first, second = (np.bincount(part, minlength=size) for part in (cell[:cut], cell[cut:]))
    filled = (first + second) > 0
    return first[filled].astype(np.int64), second[filled].astype(np.int64)


def require_values(reference: Values, current: Values) -> None:
    """Both samples hold values, and every number is finite.

    Raises:
        UnfitInput: otherwise; a statistic of nothing, or of NaN, must never look like no drift.
    """
    for name, values in (("reference", reference), ("current", current)):
        if not len(values):
            raise UnfitInput(name, "no value", "at least one")
        if values.dtype.kind not in "US" and not np.isfinite(values).all():
            raise UnfitInput(name, "a value that is not finite", "finite values")


def psi(reference: Counts, current: Counts) -> npt.NDArray[np.float64]:
    """Population stability index: sum of (q - p) log(q / p) over cells.

    Half a record is added to every cell, so that an empty cell counts as rare and not as infinitely rare.

    Args:
        reference: (K,) or (B, K) counts.
        current: (K,) or (B, K) counts.

    Returns:
        () or (B,).
    """
    p, q = ((table + 0.5) / (table.sum(-1, keepdims=True) + 0.5 * table.shape[-1]) for table in (reference, current))
    return np.asarray(((q - p) * np.log(q / p)).sum(-1), dtype=np.float64)


def expected(reference: Counts, current: Counts) -> float:
    """The least expected count of a cell in either sample."""
    n, m = int(reference.sum()), int(current.sum())
    return float((reference + current).min() * min(n, m) / (n + m))


def permutation_p(
    statistic: Callable[[Counts, Counts], npt.NDArray[np.float64]],
    reference: Counts,
    current: Counts,
    *,
    level: float,
    generator: np.random.Generator,
) -> float:
    """Chance of a statistic at least as large as the one seen, when nothing has changed; Monte Carlo, never too small.

    Looks at 999 tables, then at ten times as many fresh ones, and so on up to a number at which the level lies well
    above the least p-value; it ends at the first look whose p-value lies above its limit, ``ENOUGH`` tables' share.
    For any level t, let k be the first look with a limit below t, or the last: whenever the answer is at most t, look k
    said at most t. That look alone does so with a chance of at most t, hence so does the answer.

    Args:
        statistic: of two (B, K) tables, (B,).
        reference: (K,) counts.
        current: (K,) counts.
        level: at which the p-value will be compared.
        generator: the only source of randomness.

    Raises:
        UnfitInput: a level so small that no affordable number of tables reaches it.
    """
    seen = float(statistic(reference[None], current[None])[0])
    needed = min(max(FIRST_LOOK, math.ceil(PER_LEVEL / level)), MOST)
    tables = FIRST_LOOK
    while True:
        found = _share_above(statistic, reference, current, seen, tables, generator)
        if tables == needed or found > ENOUGH / tables:
            break
        tables = min(10 * tables, needed)
    if found <= ENOUGH / tables and needed * level < 1:
        raise UnfitInput(
            "level of a permutation test",
            f"{level:.1e}",
            f"at least {1 / MOST:.0e}",
            "Compare fewer features, or leave the statistics out that permute.",
        )
    return found


def _share_above(
    statistic: Callable[[Counts, Counts], npt.NDArray[np.float64]],
    reference: Counts,
    current: Counts,
    seen: float,
    tables: int,
    generator: np.random.Generator,
) -> float:
    pooled, size = reference + current, int(current.sum())
    above = 0
    for start in range(0, tables, CHUNK):
        drawn = generator.multivariate_hypergeometric(pooled, size, min(CHUNK, tables - start), method="marginals")
        above += int((statistic(pooled - drawn, drawn) >= seen * (1 - 1e-12)).sum())
    return (above + 1) / (tables + 1)
