"""Intervals of means, of errors over bins and of certificates: they cover, they nest, and they can be made again."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr
from scipy.stats import beta, binom

from assay.errors import UnfitInput
from assay.estimate import Estimate, paired_difference, proportion
from assay.evaluate.aspects.calibration import binned
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
from assay.restate import restated

DRAWS = 400
LEAST = {confidence: binom.ppf(1e-6, DRAWS, confidence) for confidence in (0.8, 0.95)}


@given(total=st.integers(0, 3000), records=st.integers(1, 600), confidence=st.sampled_from([0.8, 0.95, 0.9999]))
def test_the_ends_of_a_mean_are_where_the_bound_is_met(total: int, records: int, confidence: float) -> None:
    """Reference: kl(share, end) = log(2 / alpha) / n, by its definition."""
    total = min(total, 5 * records)
    made, share = bounded_mean(total, records, 5, 1, confidence), total / (5 * records)
    most = math.log(2 / (1 - confidence)) / records
    for end in (made.low, made.high):
        if 1e-9 < end < 1 - 1e-9:  # beyond that the end is right to 1e-15, the bound not
            assert rel_entr(share, end) + rel_entr(1 - share, 1 - end) == pytest.approx(most, rel=1e-6, abs=1e-9)
    assert 0 <= made.low <= share <= made.high <= 1


@pytest.mark.parametrize("records", [1, 2, 10, 60, 360])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_of_a_mean_covers_a_share_as_often_as_it_says(records: int, confidence: float) -> None:
    """Exact, for quantities that are 0 or 1, which of all in [0, 1] with one mean spread furthest."""
    made = [bounded_mean(hits, records, 1, 1, confidence) for hits in range(records + 1)]
    low, high = np.array([[each.low, each.high] for each in made]).T
    for truth in np.linspace(0.001, 0.999, 101):
        held = (low <= truth) & (truth <= high)
        assert binom.pmf(np.arange(records + 1), records, truth)[held].sum() >= confidence - 1e-9


def test_nothing_measured_is_the_whole_range() -> None:
    assert (bounded_mean(0, 0, 1, 2).low, bounded_mean(0, 0, 1, 2).high) == (0.0, 2.0)
    assert (binned_error([]).low, binned_error([]).high) == (0.0, 1.0)


def draw(rng: np.random.Generator, records: int, kind: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Certainties over [0.5, 1], and whether each came true."""
    stated = rng.uniform(0.5, 1, records) ** (0.2 if kind == "sure" else 1)
    chance = {"square": stated**2, "true": stated, "sure": stated - 0.05, "mixed": 1.5 - stated}[kind]
    return stated, rng.uniform(size=records) < chance


TRUTH = {"square": 1 / 6, "true": 0.0, "sure": 0.05, "mixed": 0.25}
"""Closed form, for bins that do not cut the sign: E|chance - stated| (mixed: of 2 * stated - 1.5, symmetric, 1/4)."""


@pytest.mark.slow
@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize(("kind", "mass"), [(k, m) for k in TRUTH for m in (False, True) if (k, m) != ("mixed", True)])
def test_the_interval_of_a_binned_error_covers_a_known_miscalibration(kind: str, confidence: float, mass: bool) -> None:
    """Statistical: 400 draws of 300 records; a correct build fails at most once in 10**6 seeds.

    Mixed certainties change sides at 0.75: an edge of 20 bins of equal width, and of no bins of equal mass.
    """
    rng = np.random.default_rng(5)
    made = [
        binned_error(binned(*draw(rng, 300, kind), 20 if kind == "mixed" else 10, mass=mass), confidence)
        for _ in range(DRAWS)
    ]
    assert sum(each.low <= TRUTH[kind] + 1e-9 and TRUTH[kind] <= each.high for each in made) >= LEAST[confidence]


def test_a_binned_error_is_what_its_bins_give() -> None:
    """Reference: two bins by hand: 0.4 * |8/10 - 0.9| + 0.6 * |6/15 - 0.4| = 0.04."""
    bins = [
        Bin(trials=10, successes=8, stated=9 * UNITS),
        Bin(trials=0, successes=0, stated=0),
        Bin(trials=15, successes=6, stated=6 * UNITS),
    ]
    made = binned_error(bins)
    first, second = proportion(8, 10, 0.975), proportion(6, 15, 0.975)
    assert made.value == pytest.approx(0.04)
    assert made.low == 0.0
    assert made.high == pytest.approx(0.4 * (0.9 - first.low) + 0.6 * max(second.high - 0.4, 0.4 - second.low))


MADE = {
    "mean": bounded_mean(1234, 500, 5, 2),
    "bins": binned_error([Bin(trials=50, successes=40, stated=45 * UNITS), Bin(trials=3, successes=1, stated=UNITS)]),
    "certified": certified_share(40, 60, 1_000_000),
    "least": least_mean([700, 650, 900], 200, 5),
    "ratio": mean_ratio([100, 50], [200, 25], 60, 5),
    "median": cut_median([5, 0, 0, 1] * 50, 0.4),
    "cut": cut_mean(1234, 500, 5, 0.3),
    "share": proportion(40, 60),
    "difference": paired_difference(4, 9, 60),
}


@pytest.mark.parametrize("name", MADE)
def test_each_is_made_again_at_another_confidence_from_its_integers(name: str) -> None:
    made = Estimate.from_json(MADE[name].to_json())
    again, back = restated(made, 0.99), restated(made, 0.95)
    assert back == made
    assert again is not None
    assert again.confidence == 0.99
    assert again.low <= made.low <= made.value <= made.high <= again.high
    assert (again.low, again.high) != (made.low, made.high)
    assert again.counts == made.counts


@pytest.mark.parametrize("name", MADE)
def test_what_its_integers_do_not_give_is_not_made_again(name: str) -> None:
    made = MADE[name]
    assert restated(replace(made, low=made.low / 2, high=made.high / 2 + 0.5), 0.99) is None
    assert restated(replace(made, counts={}), 0.99) is None
    assert restated(replace(made, counts={**made.counts, "more": 1}), 0.99) is None
    first = next(iter(made.counts))
    assert restated(replace(made, counts={**made.counts, first: -1}), 0.99) is None
    assert restated(replace(made, counts={**made.counts, first: 2**52}), 0.99) is None


def test_a_chance_that_certificates_fail_widens_their_interval() -> None:
    sure, doubtful = certified_share(40, 60, 0), certified_share(40, 60, UNITS // 50)
    assert (sure.low, sure.high) == (proportion(40, 60).low, proportion(40, 60).high)
    assert (doubtful.low, doubtful.high) == (proportion(40, 60, 0.97).low, proportion(40, 60, 0.97).high)
    with pytest.raises(UnfitInput, match="risk"):
        certified_share(40, 60, UNITS // 20)


@pytest.mark.parametrize("n", [1, 5, 6, 30, 101])
def test_the_median_lies_between_order_statistics_as_often_as_it_says(n: int) -> None:
    """Reference: the exact chance that the l-th and the (n + 1 - l)-th of n uniform values enclose 1/2, by beta."""
    made = cut_median([0, *([1] * n)], 1.0)
    least, most = round(made.low * n), round(made.high * n)
    covers = 1.0 if made.low == 0 else float(beta(least, n + 1 - least).cdf(0.5) - beta(most, n + 1 - most).cdf(0.5))
    assert covers >= 0.95
    assert round(made.value * n) == (n + 1) // 2
    if least:
        tighter = float(beta(least + 1, n - least).cdf(0.5) - beta(most - 1, n + 2 - most).cdf(0.5))
        assert tighter < 0.95, "one rank closer would not cover"


def test_the_interval_of_a_median_covers_it_of_a_lumpy_distribution_too() -> None:
    """400 draws of 40 values on four cells, two of them a lump; fails by chance in less than one in 10**6."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(DRAWS):
        values = rng.choice(5, size=40, p=[0.3, 0.15, 0.1, 0.05, 0.4])
        made = cut_median(np.bincount(values, minlength=5).tolist(), 4.0)
        covered += made.low <= 2 <= made.high
    assert covered >= LEAST[0.95]


def test_nothing_measured_is_any_median() -> None:
    made = cut_median([0, 0, 0], 0.5)
    assert (made.low, made.high, made.n) == (0.0, 0.5, 0)
    for counts, reach in (([1], 0.5), ([1, -1], 0.5), ([1, 1], 0.0)):
        with pytest.raises(UnfitInput):
            cut_median(counts, reach)
