"""Means of errors up to a declared largest one: empirical Bernstein intervals, made from integers.

An error has no greatest value of its own, and without one no interval for its mean holds whatever the distribution. So
the largest error that counts is declared, and what lies beyond counts as that much. Errors are counted in quanta, a
power of two each, so that sums and sums of squares are integers and the interval can be made again at another
confidence (see `assay.restate`); what the rounding could hide widens it.

Reference: Maurer and Pontil. Empirical Bernstein Bounds and Sample Variance Penalization. COLT 2009, theorem 4.
    arXiv:0907.3740.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput
from assay.estimate import Estimate

GREATEST = 2**53
"""No sum of squares in quanta may exceed it: canonical JSON holds integers below."""

Floats = npt.NDArray[np.float64]
Counts = dict[str, int]

PLAIN, ROOT, ENCLOSED, DIFFERENCE = METHODS = (
    "empirical-bernstein",
    "empirical-bernstein-root",
    "empirical-bernstein-enclosed",
    "empirical-bernstein-difference",
)

__all__ = ["METHODS", "enclosed_mean", "error_difference", "mean_error", "remade", "root_mean_square"]


def mean_error(errors: Floats, largest: float, confidence: float = 0.95) -> Estimate:
    """The mean of errors, each counted up to the largest.

    Args:
        errors: (N,) at least 0; one that is not finite counts as the largest.
        largest: above 0, in the unit of the errors.
        confidence: of the two-sided interval.
    """
    return remade(PLAIN, _counts(errors, errors, largest), confidence)


def root_mean_square(errors: Floats, largest: float, confidence: float = 0.95) -> Estimate:
    """The root of the mean of squared errors, each error counted up to the largest; arguments as for `mean_error`."""
    squared = np.minimum(_known(errors, largest), largest) ** 2
    return remade(ROOT, _counts(squared, squared, largest**2), confidence)


def enclosed_mean(found: Floats, bound: Floats, largest: float, confidence: float = 0.95) -> Estimate:
    """The mean of errors that are known to lie between two others: what was found, and what is proven not exceeded.

    The lower end is that of what was found, the upper end that of the bound; the value is the mean of what was found.

    Args:
        found: (N,) at least 0.
        bound: (N,) nowhere below it.
        largest: as for `mean_error`.
        confidence: of the two-sided interval.
    """
    return remade(ENCLOSED, _counts(found, bound, largest), confidence)


def error_difference(
    errors: tuple[Floats, Floats], than: tuple[Floats, Floats], largest: float, confidence: float = 0.95
) -> Estimate:
    """How much greater one model's mean error is than another's, on the same records.

    Of each model the error is known to lie between two, as for `enclosed_mean`; where it is known, they are equal. The
    interval is that of the mean of the records' own differences, in [-largest, largest]: what is hard for both models
    cancels, and is not paid for. The value is the difference of what was found.

    Args:
        errors: of the model, each (N,): what was found, and what is proven not exceeded.
        than: of the other, on the same records.
        largest: as for `mean_error`; an error of either model counts up to it.
        confidence: of the two-sided interval.
    """
    first, second = (_rounded(found, bound, largest, width=2) for found, bound in (errors, than))
    if len(first.least) != len(second.least):
        raise UnfitInput("error difference", f"{len(first.least)} and {len(second.least)} records", "the same records")
    least = [one - other + first.scale for one, other in zip(first.least, second.most, strict=True)]
    most = [one - other + first.scale for one, other in zip(first.most, second.least, strict=True)]
    middle = sum(first.least) - sum(second.least) + first.scale * len(least)
    return remade(DIFFERENCE, _sums(least, most, first) | {"middle": middle}, confidence)


def remade(method: str, counts: Counts, confidence: float) -> Estimate:
    """The estimate of a method from its counts.

    Raises:
        UnfitInput: counts that fit no errors, or no such method.
    """
    if method not in METHODS:
        raise UnfitInput("interval: method", method, "one of empirical Bernstein")
    n, scale, quantum = counts["records"], counts["scale"], math.ldexp(1.0, counts["exponent"])
    width = 2 * scale if method == DIFFERENCE else scale
    low = _mean(counts["total"], counts["squares"], n, width, confidence)
    high = _mean(counts["bound_total"], counts["bound_squares"], n, width, confidence)
    ends = [low[0], low[1], high[2]]
    if method == DIFFERENCE:
        ends = [end - scale for end in (low[0], _middle(counts), high[2])]
    if method == ROOT:
        ends, quantum = [math.sqrt(end) for end in ends], math.sqrt(quantum)
    least, value, most = (quantum * end for end in ends)
    return Estimate(
        value=value,
        low=least,
        high=max(most, value),
        n=n,
        confidence=confidence,
        method=method,
        counts=dict(counts),
    )


def _middle(counts: Counts) -> float:
    """The mean of the differences of what was found, shifted as they are; of no records, no difference."""
    if not counts["total"] <= counts["middle"] <= counts["bound_total"]:
        raise UnfitInput("error difference", f"{counts['middle']}", "a sum between those of its ends")
    return counts["middle"] / counts["records"] if counts["records"] else float(counts["scale"])


def _mean(total: int, squares: int, n: int, scale: int, confidence: float) -> tuple[float, float, float]:
    """Lower end, mean and upper end, in quanta, of values in [0, scale]."""
    spread = n * squares - total * total
    if n < 0 or scale < 1 or not 0 <= total <= n * scale or spread < 0 or squares > n * scale * scale:
        raise UnfitInput("mean error", f"total {total}, squares {squares} of {n} x {scale}", "counts of errors")
    if n < 2:
        return 0.0, float(total), float(scale)
    mean, log = total / n, math.log(4 / (1 - confidence))
    away = math.sqrt(2 * (spread / (n * (n - 1))) * log / n) + 7 * scale * log / (3 * (n - 1))
    return max(0.0, mean - away), mean, min(float(scale), mean + away)


@dataclass(frozen=True)
class _Rounded:
    """Errors in quanta of 2**exponent, found ones rounded down and bounds rounded up; none beyond ``scale``."""

    least: list[int]
    most: list[int]
    scale: int
    exponent: int


def _counts(found: Floats, bound: Floats, largest: float) -> Counts:
    rounded = _rounded(found, bound, largest)
    return _sums(rounded.least, rounded.most, rounded)


def _sums(least: list[int], most: list[int], rounded: _Rounded) -> Counts:
    return {
        "total": sum(least),
        "squares": sum(each * each for each in least),
        "bound_total": sum(most),
        "bound_squares": sum(each * each for each in most),
        "records": len(least),
        "scale": rounded.scale,
        "exponent": rounded.exponent,
    }


def _rounded(found: Floats, bound: Floats, largest: float, width: int = 1) -> _Rounded:
    """In quanta as small as the integers allow, for values that reach over ``width`` times the largest error."""
    if not (0 < largest < math.inf and found.shape == bound.shape):
        raise UnfitInput("mean error: largest", f"{largest}", "a finite number above 0")
    n = len(found)
    exponent = math.frexp(largest)[1] - int(math.log2(GREATEST / max(n, 1)) / 2)
    scale = math.ceil(math.ldexp(largest, -exponent))
    while (width * scale) ** 2 * n >= GREATEST:
        exponent += 1
        scale = math.ceil(math.ldexp(largest, -exponent))
    down, up = (np.minimum(_known(each, largest), largest) * 2.0**-exponent for each in (found, bound))
    least = [int(each) for each in np.floor(down).tolist()]
    most = [int(each) for each in np.ceil(up).tolist()]
    return _Rounded(least, most, scale, exponent)


def _known(errors: Floats, largest: float) -> Floats:
    if (errors < 0).any():
        raise UnfitInput("mean error", f"an error of {errors.min():g}", "errors of at least 0")
    return np.nan_to_num(errors, nan=largest, posinf=largest)
