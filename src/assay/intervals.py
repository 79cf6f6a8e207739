"""Intervals for what is no plain share: a mean of bounded quantities, an error summed over bins, certificates.

Each is made from integers alone, so that it can be made again at another confidence (see `assay.restate`).
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.optimize import brentq
from scipy.special import rel_entr
from scipy.stats import binom

from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion

UNITS = 10**9
"""A stated share is counted in billionths."""

LEAST, MOST = 1e-300, 1 - 2**-53

__all__ = [
    "UNITS",
    "Bin",
    "binned_error",
    "bounded_mean",
    "certified_share",
    "cut_mean",
    "cut_median",
    "least_mean",
    "mean_ratio",
]


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Records whose stated certainty lies in one bin.

    Fields:
        trials: how many.
        successes: how many of them are right.
        stated: the sum of what they state, in billionths.
    """

    trials: int
    successes: int
    stated: int


def bounded_mean(total: int, records: int, scale: int, width: int = 1, confidence: float = 0.95) -> Estimate:
    """The mean of a quantity in [0, width], with an interval that holds whatever its distribution.

    Inverts the Chernoff-Hoeffding bound: a mean of n independent quantities in [0, 1] whose mean is q is as far as p
    from it with a chance of at most exp(-n kl(p, q)), on each side.

    Args:
        total: the sum over all records, in parts of ``width / scale``.
        records: how many; 0 gives the whole range with n = 0.
        scale: parts that make up the greatest value.
        width: the greatest value.
        confidence: of the two-sided interval.

    Reference: Hoeffding, Journal of the American Statistical Association 58 (1963), 13-30, theorem 1.
    """
    if not (0 <= total <= records * scale and scale >= 1 and width >= 1):
        raise UnfitInput("bounded mean", f"{total} of {records} x {scale}", "0 <= total <= records * scale")
    share = total / (records * scale) if records else 0.0
    most = math.log(2 / (1 - confidence)) / records if records else math.inf
    low, high = _within(share, most)
    return Estimate(
        value=width * share,
        low=width * low,
        high=width * high,
        n=records,
        confidence=confidence,
        method="chernoff-hoeffding",
        counts={"total": total, "records": records, "scale": scale, "width": width},
    )


def binned_error(bins: Sequence[Bin], confidence: float = 0.95) -> Estimate:
    """How far stated certainties are from what comes true: summed over bins, each weighted by its records.

    The true share of right answers in each bin lies in its Clopper-Pearson interval, in all bins at once (Bonferroni
    over those that hold records); the ends are the least and the greatest error that this leaves. What the records
    state is given: only whether they are right is random. The value is the usual estimate, which is biased upwards,
    since noise adds to every bin; the interval is not.

    Args:
        bins: in any order; empty ones count for nothing.
        confidence: of the two-sided interval.

    Reference: Naeini, Cooper, Hauskrecht. Obtaining Well Calibrated Probabilities Using Bayesian Binning. AAAI 2015.
    """
    if any(not (0 <= it.successes <= it.trials and 0 <= it.stated <= it.trials * UNITS) for it in bins):
        raise UnfitInput("binned error", str(bins)[:200], "successes and stated certainty that fit the trials")
    records, full = sum(it.trials for it in bins), [it for it in bins if it.trials]
    counts = {"bins": len(bins), "records": records}
    for at, it in enumerate(bins):
        counts |= {f"trials/{at}": it.trials, f"successes/{at}": it.successes, f"stated/{at}": it.stated}
    value = low = high = 0.0
    for it in full:
        part = proportion(it.successes, it.trials, 1 - (1 - confidence) / len(full))
        weight, said = it.trials / records, it.stated / UNITS / it.trials
        value += weight * abs(part.value - said)
        low += weight * max(0.0, part.low - said, said - part.high)
        high += weight * max(abs(part.low - said), abs(part.high - said))
    return Estimate(
        value=value,
        low=min(low, value),
        high=max(high, value) if records else 1.0,
        n=records,
        confidence=confidence,
        method="clopper-pearson-bins",
        counts=counts,
    )


def least_mean(totals: Sequence[int], records: int, scale: int, confidence: float = 0.95) -> Estimate:
    """The least of several means in [0, 1] over the same records, with an interval that holds for all at once.

    Args:
        totals: of each, the sum over all records in parts of ``1 / scale``.
        records: how many.
        scale: parts that make up 1.
        confidence: of the two-sided interval; by Bonferroni each mean has its share of the error.
    """
    if not totals:
        raise UnfitInput("least mean", "no totals", "at least one")
    every = _at_once(totals, records, scale, confidence)
    return Estimate(
        value=min(each.value for each in every),
        low=min(each.low for each in every),
        high=min(each.high for each in every),
        n=records,
        confidence=confidence,
        method="chernoff-hoeffding-least",
        counts={"records": records, "scale": scale, **{f"total/{at}": total for at, total in enumerate(totals)}},
    )


def mean_ratio(
    totals: Sequence[int], units: Sequence[int], records: int, scale: int, confidence: float = 0.95
) -> Estimate:
    """The mean of several means, each in units of a yardstick that is taken as it is.

    Args:
        totals: as for `least_mean`.
        units: the yardsticks' sums, each above 0, in the same parts over as many records.
        records: how many.
        scale: parts that make up 1.
        confidence: of the two-sided interval.
    """
    if not totals or len(totals) != len(units) or min(units) < 1 or not records:
        raise UnfitInput("mean ratio", f"{len(totals)} totals, units {list(units)}"[:200], "a unit above 0 for each")
    every = _at_once(totals, records, scale, confidence)
    yards = [unit / (records * scale) for unit in units]
    low, value, high = (
        math.fsum(getattr(each, end) / yard for each, yard in zip(every, yards, strict=True)) / len(every)
        for end in ("low", "value", "high")
    )
    parts = {f"total/{at}": total for at, total in enumerate(totals)} | {
        f"unit/{at}": it for at, it in enumerate(units)
    }
    return Estimate(
        value=value,
        low=min(low, value),
        high=max(high, value),
        n=records,
        confidence=confidence,
        method="chernoff-hoeffding-ratio",
        counts={"records": records, "scale": scale, **parts},
    )


def certified_share(successes: int, trials: int, risk: int, confidence: float = 0.95) -> Estimate:
    """A share of records with a certificate, where all certificates hold together but for a chance.

    The chance is added to the confidence of the Clopper-Pearson interval, so the lower end holds for the records whose
    certificate is true. The upper end is one of what the procedure certifies: with more samples it may certify more.

    Args:
        successes: records with a certificate.
        trials: records.
        risk: the chance that any certificate is wrong, in billionths.
        confidence: of the two-sided interval; with the risk added below 1.
    """
    if risk < 0 or not confidence + risk / UNITS < 1:
        raise UnfitInput("certified share", f"risk {risk / UNITS:g}", f"less than {1 - confidence:g}")
    found = proportion(successes, trials, confidence + risk / UNITS)
    counts = {**found.counts, "risk": risk}
    return replace(found, confidence=confidence, method="clopper-pearson-certified", counts=counts)


def cut_median(counts: Sequence[int], reach: float, confidence: float = 0.95) -> Estimate:
    """The median of a quantity in [0, reach], with the interval of order statistics, whatever its distribution.

    Below the l-th least of n values the median lies only if fewer than l of them lie at or below it, which has the
    chance of fewer than l heads of n coins at most; the same from above. The value is the lower median.

    Args:
        counts: records in each cell: at 0, at one step, ..., at ``reach`` (what is cut off there included).
        reach: the greatest value, counted in billionths.
        confidence: of the two-sided interval; with too few records for it the whole range.

    Reference: Thompson. On Confidence Ranges for the Median and Other Expectation Distributions for Populations of
        Unknown Distribution Form. Annals of Mathematical Statistics 7 (1936), 122-128.
    """
    cells, units = len(counts) - 1, round(reach * UNITS)
    if cells < 1 or min(counts) < 0 or units < 1:
        raise UnfitInput("median", f"{len(counts)} cells, reach {reach}", "two cells or more, and a reach above 0")
    n, upto = sum(counts), list(itertools.accumulate(counts))

    def at(rank: int) -> float:
        return units / UNITS * bisect_left(upto, rank) / cells

    rank = int(binom.ppf((1 - confidence) / 2, n, 0.5)) if n else 0  # the greatest l with P(heads < l) <= the tail
    rank += int(n > 0 and binom.cdf(rank, n, 0.5) <= (1 - confidence) / 2)
    value = at((n + 1) // 2) if n else 0.0
    return Estimate(
        value=value,
        low=at(rank) if rank else 0.0,
        high=at(n + 1 - rank) if rank else units / UNITS,
        n=n,
        confidence=confidence,
        method="order-statistics",
        counts={"cells": cells, "reach": units, **{f"cell/{cell}": each for cell, each in enumerate(counts) if each}},
    )


def cut_mean(total: int, records: int, scale: int, reach: float, confidence: float = 0.95) -> Estimate:
    """The mean of a quantity in [0, reach], as `bounded_mean`.

    Args:
        total: the sum over all records, in parts of ``reach / scale``.
        records: how many.
        scale: parts that make up ``reach``.
        reach: the greatest value, counted in billionths.
        confidence: of the two-sided interval.
    """
    units, share = round(reach * UNITS), bounded_mean(total, records, scale, 1, confidence)
    if units < 1:
        raise UnfitInput("mean: reach", str(reach), "above 0")
    ends = {end: units / UNITS * getattr(share, end) for end in ("low", "value", "high")}
    counts = {"total": total, "records": records, "scale": scale, "reach": units}
    return replace(share, **ends, method="chernoff-hoeffding-cut", counts=counts)


def _at_once(totals: Sequence[int], records: int, scale: int, confidence: float) -> list[Estimate]:
    return [bounded_mean(total, records, scale, 1, 1 - (1 - confidence) / len(totals)) for total in totals]


def _within(share: float, most: float) -> tuple[float, float]:
    """The least and the greatest q in [0, 1] with kl(share, q) <= most."""

    def beyond(q: float) -> float:
        return float(rel_entr(share, q) + rel_entr(1 - share, 1 - q)) - most

    low = brentq(beyond, LEAST, share, xtol=1e-15) if share > LEAST and beyond(LEAST) > 0 else 0.0
    high = brentq(beyond, share, MOST, xtol=1e-15) if share < MOST and beyond(MOST) > 0 else 1.0
    return min(float(low), share), max(float(high), share)
