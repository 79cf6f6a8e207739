"""The same measurement at another confidence, made again from the integers behind it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from assay.bernstein import METHODS, remade
from assay.errors import UnfitInput
from assay.estimate import Estimate, paired_difference, proportion
from assay.intervals import (
    UNITS,
    Bin,
    binned_error,
    bounded_mean,
    certified_share,
    cut_mean,
    cut_median,
    least_mean,
    mean_ratio,
)

__all__ = ["restated"]

Counts = dict[str, int]
MOST_CELLS = 1_000_000


def restated(found: Estimate, confidence: float) -> Estimate | None:
    """The same measurement at another confidence, from the integers behind it.

    Returns None where the method cannot be made again from its counts, or where they do not give the interval that the
    estimate has: such an estimate counts at its own confidence, or not at all.

    Args:
        found: an estimate as `assay.estimate` and `assay.intervals` make them; one that was curtailed stopped for its
            own confidence, and is not made again.
        confidence: of the two-sided interval wanted.
    """
    make = _AGAIN.get(found.method)
    if make is None:
        return None
    try:
        same, made = make(found.counts, found.confidence), make(found.counts, confidence)
    except (UnfitInput, KeyError, ZeroDivisionError):
        return None
    agrees = math.isclose(found.low, same.low, abs_tol=1e-9) and math.isclose(found.high, same.high, abs_tol=1e-9)
    return made if agrees and same.counts == found.counts and found.n == same.n else None


def _bins(counts: Counts, confidence: float) -> Estimate:
    if not 0 <= 3 * counts["bins"] <= len(counts):
        raise KeyError("bins")
    bins = [
        Bin(trials=counts[f"trials/{at}"], successes=counts[f"successes/{at}"], stated=counts[f"stated/{at}"])
        for at in range(counts["bins"])
    ]
    return binned_error(bins, confidence)


def _each(counts: Counts, name: str) -> list[int]:
    """``name/0``, ``name/1`` and so on, as far as they go."""
    return [counts[f"{name}/{at}"] for at in range(len(counts)) if f"{name}/{at}" in counts]


def _median(counts: Counts, confidence: float) -> Estimate:
    if not 1 <= counts["cells"] <= MOST_CELLS:
        raise KeyError("cells")
    cells = [counts.get(f"cell/{at}", 0) for at in range(counts["cells"] + 1)]
    return cut_median(cells, counts["reach"] / UNITS, confidence)


_AGAIN: dict[str, Callable[[Counts, float], Estimate]] = {
    "clopper-pearson": lambda counts, confidence: proportion(counts["successes"], counts["trials"], confidence),
    "clopper-pearson-bins": _bins,
    "clopper-pearson-certified": lambda counts, confidence: certified_share(
        counts["successes"], counts["trials"], counts["risk"], confidence
    ),
    "chernoff-hoeffding": lambda counts, confidence: bounded_mean(
        counts["total"], counts["records"], counts["scale"], counts["width"], confidence
    ),
    "chernoff-hoeffding-least": lambda counts, confidence: least_mean(
        _each(counts, "total"), counts["records"], counts["scale"], confidence
    ),
    "chernoff-hoeffding-ratio": lambda counts, confidence: mean_ratio(
        _each(counts, "total"), _each(counts, "unit"), counts["records"], counts["scale"], confidence
    ),
    "chernoff-hoeffding-cut": lambda counts, confidence: cut_mean(
        counts["total"], counts["records"], counts["scale"], counts["reach"] / UNITS, confidence
    ),
    "order-statistics": _median,
    "mcnemar-exact-bonferroni": lambda counts, confidence: paired_difference(
        counts["only_first"], counts["only_second"], counts["records"], confidence
    ),
} | {method: partial(remade, method) for method in METHODS}
