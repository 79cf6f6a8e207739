"""Numbers with their uncertainty: no number about a model travels without its interval."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from scipy.special import betainc, betaincinv, gammaln

from assay.errors import UnfitInput

RISK = 1e-3

__all__ = ["RISK", "Estimate", "curtailed", "least_for", "paired_difference", "proportion", "settled"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured number, its confidence interval, and the integers behind it.

    Fields:
        value: the point estimate; never read by a rule.
        low, high: ends of the two-sided interval.
        n: records it rests on; 0 means that nothing was measured, and the interval is then the whole range.
        confidence: the share of such intervals that hold the truth, at least.
        method: how the interval was made.
        counts: the integers behind it, such as ``{"successes": 88, "trials": 100}``.
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float
    method: str
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = (self.value, self.low, self.high, self.confidence)
        if not all(math.isfinite(number) for number in numbers) or not self.low <= self.value <= self.high:
            raise UnfitInput("estimate", f"{self.low} <= {self.value} <= {self.high}", "finite numbers in this order")
        if not 0 < self.confidence < 1 or self.n < 0:
            raise UnfitInput("estimate", f"confidence {self.confidence}, n {self.n}", "confidence in (0, 1), n >= 0")

    def __str__(self) -> str:
        places = max(0, math.ceil(-math.log10(100 * (1 - self.confidence))))  # 95%, 97%, 99.97%: never a round 100%
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] ({self.confidence:.{places}%}, n={self.n})"

    def to_json(self) -> dict[str, Any]:
        """Plain data for canonical JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Estimate:
        """The reverse of `to_json`; a missing or unknown field is an error."""
        try:
            names = {field.name for field in fields(cls)}
            if set(document) != names:
                raise TypeError(f"the fields {sorted(document)}")
            whole = {"n": document["n"], **document["counts"]}
            real = {name: document[name] for name in ("value", "low", "high", "confidence")}
            for name, number in {**whole, **real}.items():
                if isinstance(number, bool) or not isinstance(number, int if name in whole else int | float):
                    raise TypeError(f"{name} is {number!r}")
            if not isinstance(document["method"], str):
                raise TypeError(f"method is {document['method']!r}")
            return cls(**{**document, **{name: float(number) for name, number in real.items()}})
        except (TypeError, AttributeError, OverflowError) as error:
            raise UnfitInput("estimate", str(error), "the fields of an Estimate, each of its type") from error


def proportion(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """A share with its exact (Clopper-Pearson) interval.

    Covers the true share with at least the stated confidence, whatever the share and the number of trials.

    Args:
        successes: in [0, trials].
        trials: 0 gives the whole range [0, 1] with n = 0.
        confidence: of the two-sided interval.

    Reference: Clopper and Pearson, Biometrika 26 (1934), 404-413.
    """
    if not 0 <= successes <= trials:
        raise UnfitInput("proportion", f"{successes} of {trials}", "0 <= successes <= trials")
    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return Estimate(
        value=successes / trials if trials else 0.0,
        low=low,
        high=high,
        n=trials,
        confidence=confidence,
        method="clopper-pearson",
        counts={"successes": successes, "trials": trials},
    )


def curtailed(successes: int, trials: int, population: int, confidence: float = 0.95, risk: float = RISK) -> Estimate:
    """A share of which only some of a finite set of records, in random order, have been looked at so far.

    How many successes the whole set holds is bounded by a confidence sequence for sampling without replacement: with a
    uniform prior, K is ruled out once its hypergeometric likelihood falls below ``risk / (trials + 1)``, which happens
    to the true K at any time with a chance of at most ``risk`` (Ville's inequality). The interval runs from the lower
    Clopper-Pearson end of the least K that is left to the upper end of the greatest, at a confidence higher by
    ``risk``; so it covers the true share with the stated confidence whenever one stops, for whatever reason, and holds
    the interval that all records will give but for a chance of ``risk``. With all records it is `proportion`.

    Args:
        successes: in [0, trials].
        trials: records looked at, in [0, population].
        population: records in all.
        confidence: of the two-sided interval; with ``risk`` added below 1.
        risk: chance that the verdict on all records will be another.

    Reference: Waudby-Smith and Ramdas. Confidence sequences for sampling without replacement. NeurIPS 2020, theorem 1.
        arXiv:2006.04347.
    """
    if trials == population:
        return proportion(successes, trials, confidence)
    if not (0 <= successes <= trials < population and 0 < risk < 1 - confidence):
        got = f"{successes} of {trials} of {population}, risk {risk:g}"
        raise UnfitInput("curtailed", got, "0 <= successes <= trials <= population, 0 < risk < 1 - confidence")
    possible = np.arange(successes, population - (trials - successes) + 1)
    log = _log_choose(possible, successes) + _log_choose(population - possible, trials - successes)
    left = possible[log - _log_choose(population, trials) >= math.log(risk / (trials + 1))]
    least, most = int(left[0]), int(left[-1])
    return Estimate(
        value=successes / trials if trials else least / population,
        low=proportion(least, population, confidence + risk).low,
        high=proportion(most, population, confidence + risk).high,
        n=trials,
        confidence=confidence,
        method="curtailed-clopper-pearson",
        counts={"successes": successes, "trials": trials, "population": population, "least": least, "most": most},
    )


def settled(estimate: Estimate, bar: float) -> bool:
    """Whether the verdict on a bar is what all records will say, but for the risk of `curtailed`.

    The interval lies above the bar or below it, or every count that is left would leave the bar inside.
    """
    if estimate.low >= bar or estimate.high < bar or "population" not in estimate.counts:
        return True
    population, confidence = estimate.counts["population"], estimate.confidence
    ends = [proportion(estimate.counts[end], population, confidence) for end in ("least", "most")]
    return ends[1].low < bar <= ends[0].high


def _log_choose(n: Any, k: Any) -> Any:
    return gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.subtract(n, k) + 1)


def paired_difference(only_first: int, only_second: int, n: int, confidence: float = 0.95) -> Estimate:
    """How much more often the first of two models is right, on the same records.

    The difference of two shares is (only_first - only_second) / n. Its interval inverts the exact conditional
    (McNemar) test: given the ``only_first + only_second`` records on which they differ, the number the first wins is
    binomial. Half of the error is spent on the number of differing records, half on the split of them, so the interval
    covers without any approximation.

    Args:
        only_first: records that only the first model gets right.
        only_second: records that only the second model gets right.
        n: all records; at least the sum of the two.
        confidence: of the two-sided interval.

    Reference: McNemar, Psychometrika 12 (1947), 153-157; Bonferroni over the two exact intervals.
    """
    differing = only_first + only_second
    if min(only_first, only_second) < 0 or differing > n:
        raise UnfitInput("paired difference", f"{only_first} and {only_second} of {n}", "counts that fit into n")
    half = 1 - (1 - confidence) / 2
    discordant, split = proportion(differing, n, half), proportion(only_first, differing, half)
    corners = [share * (2 * win - 1) for share in (discordant.low, discordant.high) for win in (split.low, split.high)]
    value = (only_first - only_second) / n if n else 0.0
    return Estimate(
        value=value,
        low=min(*corners, value),
        high=max(*corners, value),
        n=n,
        confidence=confidence,
        method="mcnemar-exact-bonferroni",
        counts={"only_first": only_first, "only_second": only_second, "records": n},
    )


def least_for(share: float, bar: float, confidence: float = 0.95, limit: int = 10_000_000) -> int | None:
    """How many records would settle it: from this n on, a share measured as ``share`` clears ``bar`` from above.

    ``share * n`` successes, rounded down, make the lower end climb in steps. Its formula holds between the integers
    too, without steps: taken at ``share * n`` and at ``share * n - 1`` it encloses the answer, which is then looked up.

    Returns None when the share is not above the bar or ``limit`` would not do.
    """
    if not share > bar:
        return None
    tail = (1 - confidence) / 2

    def clears(n: Any, successes: Any) -> Any:
        return betainc(successes, n - successes + 1, bar) <= tail

    def first(less: int) -> int:
        return bisect_left(range(limit), True, lo=1, key=lambda n: bool(clears(n, share * n - less)))

    sizes = np.arange(first(0), first(1) + 1)
    fails = np.flatnonzero(~clears(sizes, np.floor(share * sizes + 1e-9)))
    least = int(sizes[fails[-1]]) + 1 if len(fails) else int(sizes[0])
    return least if least < limit else None
