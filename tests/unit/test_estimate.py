"""Intervals: exact, covering as often as they say, and read back as they were written."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, multinomial

from assay import canonical
from assay.errors import UnfitInput
from assay.estimate import Estimate, least_for, paired_difference, proportion

ROUNDING = 1e-9


@given(trials=st.integers(1, 5000), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.999]))
def test_a_share_has_the_exact_interval_of_scipy(trials: int, share: float, confidence: float) -> None:
    successes = round(share * trials)
    made = proportion(successes, trials, confidence)
    exact = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    assert made.low == pytest.approx(exact.low, abs=ROUNDING)
    assert made.high == pytest.approx(exact.high, abs=ROUNDING)
    assert made.counts == {"successes": successes, "trials": trials}


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("trials", [1, 2, 10, 60, 360])
def test_the_interval_of_a_share_covers_every_truth_as_often_as_it_says(trials: int, confidence: float) -> None:
    """Exact: the chance of every count times whether its interval holds the truth, extreme shares included."""
    made = [proportion(successes, trials, confidence) for successes in range(trials + 1)]
    low, high = np.array([[each.low, each.high] for each in made]).T
    edges = np.concatenate([low, high])
    near = np.concatenate([edges - 1e-9, edges + 1e-9, [1e-12, 1 - 1e-12], np.linspace(0, 1, 201)])
    for truth in near[(near >= 0) & (near <= 1)]:
        held = (low <= truth) & (truth <= high)
        covered = binom.pmf(np.arange(trials + 1), trials, truth)[held].sum()
        assert covered >= confidence - ROUNDING, truth


@pytest.mark.parametrize("n", [1, 2, 5, 12, 30])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_of_a_paired_difference_covers_every_truth_as_often_as_it_says(n: int, confidence: float) -> None:
    """Exact: over both counts, for all shares of a grid that reaches into the corners."""
    pairs = [(first, second) for first in range(n + 1) for second in range(n + 1 - first)]
    made = [paired_difference(first, second, n, confidence) for first, second in pairs]
    low, high = np.array([[each.low, each.high] for each in made]).T
    counts = np.array([[first, second, n - first - second] for first, second in pairs])
    grid = [0, 1e-6, 0.001, 0.01, 0.03, 0.08, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1]
    for p in grid:
        for q in (value for value in grid if p + value <= 1):
            held = (low <= p - q + ROUNDING) & (p - q - ROUNDING <= high)
            covered = multinomial.pmf(counts[held], n, [p, q, max(1 - p - q, 0.0)]).sum()
            assert covered >= confidence - ROUNDING, (p, q)


@given(first=st.integers(0, 300), second=st.integers(0, 300), rest=st.integers(0, 300))
def test_a_paired_difference_spends_half_of_its_error_on_each_of_two_exact_intervals(
    first: int, second: int, rest: int
) -> None:
    """Reference: scipy's intervals of how many records differ and who wins them, at 97.5 % each, multiplied out."""
    n = first + second + rest
    if not first + second:
        return
    differing = binomtest(first + second, n).proportion_ci(0.975, method="exact")
    winning = binomtest(first, first + second).proportion_ci(0.975, method="exact")
    products = np.multiply.outer([differing.low, differing.high], [2 * winning.low - 1, 2 * winning.high - 1])
    made = paired_difference(first, second, n, 0.95)
    assert (made.low, made.high) == pytest.approx((products.min(), products.max()), abs=ROUNDING)


def test_simulated_differences_are_covered_as_often_as_the_interval_says() -> None:
    """Statistical, at a size that cannot be enumerated; a correct build fails at most once in 10**6 seeds."""
    draws = np.random.default_rng(3).multinomial(360, [0.04, 0.02, 0.94], size=3000)
    made = [paired_difference(int(first), int(second), 360) for first, second, _ in draws]
    assert sum(each.low <= 0.02 <= each.high for each in made) >= binom.ppf(1e-6, 3000, 0.95)


@given(data=st.data(), n=st.integers(1, 400))
def test_one_more_win_never_lowers_the_difference_or_its_interval(data: Any, n: int) -> None:
    """A record both got right (or wrong) that the first now wins alone, and one that it takes from the second."""
    first = data.draw(st.integers(0, n - 1))
    second = data.draw(st.integers(0, n - 1 - first))
    before, after = paired_difference(first, second, n), paired_difference(first + 1, second, n)
    assert after.value > before.value
    if second:
        taken = paired_difference(first + 1, second - 1, n)
        assert taken.low >= before.low - ROUNDING
        assert taken.high >= before.high - ROUNDING


@given(first=st.integers(0, 200), second=st.integers(0, 200), rest=st.integers(0, 200))
def test_a_difference_turned_round_is_its_mirror(first: int, second: int, rest: int) -> None:
    n = first + second + rest
    made, mirror = paired_difference(first, second, n), paired_difference(second, first, n)
    assert (made.value, made.low, made.high) == pytest.approx((-mirror.value, -mirror.high, -mirror.low), abs=ROUNDING)


def test_nothing_measured_is_the_whole_range() -> None:
    assert (proportion(0, 0).low, proportion(0, 0).high, proportion(0, 0).n) == (0, 1, 0)
    assert (paired_difference(0, 0, 0).low, paired_difference(0, 0, 0).high) == (-1, 1)


@pytest.mark.parametrize("counts", [(-1, 5), (6, 5), (0, -1)])
def test_counts_that_cannot_be_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(UnfitInput):
        proportion(*counts)


@pytest.mark.parametrize("counts", [(-1, 0, 5), (3, 3, 5), (0, 0, -1)])
def test_pairs_that_cannot_be_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(UnfitInput):
        paired_difference(*counts)


@pytest.mark.parametrize(
    ("share", "bar"), [(0.9, 0.85), (0.412, 0.4), (1.0, 0.9), (0.29, 0.2), (0.3, 0.29), (0.7, 0.2)]
)
def test_from_the_least_number_of_records_on_a_share_clears_its_bar(share: float, bar: float) -> None:
    """Reference: every number up to 20000, one after the other."""
    sizes = np.arange(1, 20001)
    clears = binom.sf(np.floor(share * sizes + 1e-9) - 1, sizes, bar) <= 0.025
    least = least_for(share, bar)
    assert least == sizes[~clears][-1] + 1
    assert proportion(math.floor(share * least + 1e-9), least).low >= bar


@pytest.mark.parametrize(("share", "bar"), [(0.4, 0.4), (0.39, 0.4), (math.nan, 0.4), (0.4 + 1e-9, 0.4)])
def test_no_number_of_records_settles_what_is_not_above_the_bar(share: float, bar: float) -> None:
    assert least_for(share, bar) is None


@given(
    successes=st.integers(0, 10**6), extra=st.integers(0, 10**6), confidence=st.floats(0.5, 0.9999, exclude_min=True)
)
def test_an_estimate_is_read_back_as_it_was_written(successes: int, extra: int, confidence: float) -> None:
    made = proportion(successes, successes + extra, confidence)
    assert Estimate.from_json(canonical.loads(canonical.dumps(made.to_json()))) == made


GOOD = proportion(88, 100).to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"value": math.nan},
        {"low": -math.inf},
        {"low": 0.9},
        {"high": 0.5},
        {"value": True},
        {"n": True},
        {"n": 100.0},
        {"n": -1},
        {"n": "100"},
        {"confidence": 1},
        {"confidence": 0},
        {"method": None},
        {"counts": {"trials": True}},
        {"counts": {"trials": 1.5}},
        {"counts": [1]},
        {"p_value": 0.5},
    ],
    ids=str,
)
def test_an_estimate_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UnfitInput):
        Estimate.from_json(GOOD | change)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_an_estimate_that_lacks_a_field_is_refused(name: str) -> None:
    with pytest.raises(UnfitInput):
        Estimate.from_json({key: value for key, value in GOOD.items() if key != name})


def test_an_estimate_cannot_be_made_out_of_order() -> None:
    with pytest.raises(UnfitInput):
        replace(proportion(88, 100), low=0.9)
