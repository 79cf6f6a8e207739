"""Intervals for mean errors up to a declared largest one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from assay import canonical
from assay.bernstein import GREATEST, enclosed_mean, error_difference, mean_error, root_mean_square
from assay.errors import UnfitInput
from assay.estimate import Estimate
from assay.restate import restated

DRAWS = 2000


def by_formula(errors: np.ndarray, largest: float, confidence: float) -> tuple[float, float]:
    """Maurer and Pontil, theorem 4, on each side with half of the error; in floating point."""
    n, log = len(errors), math.log(2 / ((1 - confidence) / 2))
    away = math.sqrt(2 * errors.var(ddof=1) * log / n) + 7 * largest * log / (3 * (n - 1))
    return max(0.0, errors.mean() - away), min(largest, errors.mean() + away)


@pytest.mark.parametrize("largest", [1.0, 0.3, 977.0, 1e-12, 3e14])
@pytest.mark.parametrize("n", [2, 50, 4097])
def test_is_the_published_formula(n, largest):
    errors = largest * np.random.default_rng(n).beta(1, 5, n)
    found = mean_error(errors, largest, 0.9)
    low, high = by_formula(errors, largest, 0.9)
    assert found.value == pytest.approx(errors.mean(), rel=1e-4)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-4, abs=1e-6 * largest)
    root = root_mean_square(errors, largest, 0.9)
    low, high = by_formula(errors**2, largest**2, 0.9)
    assert root.value == pytest.approx(math.sqrt((errors**2).mean()), rel=1e-4)
    assert (root.low, root.high) == pytest.approx((math.sqrt(low), math.sqrt(high)), rel=1e-3, abs=1e-3 * largest)


@pytest.mark.parametrize("shape", ["rare", "beta", "uniform", "constant"])
def test_covers_the_truth_as_often_as_it_says(shape):
    """Statistical: over 2,000 draws of 80; a right build fails at most once in 10**6 seeds."""
    draw = np.random.default_rng(7)
    kinds = {
        "rare": (lambda: 4.0 * (draw.random(80) < 0.02), 0.08, 0.08 * 4),
        "beta": (lambda: 4 * draw.beta(1, 3, 80), 1.0, 16 * 2 / 20),
        "uniform": (lambda: 4 * draw.random(80), 2.0, 16 / 3),
        "constant": (lambda: np.full(80, 0.7), 0.7, 0.49),
    }
    make, mean, square = kinds[shape]
    samples = [make() for _ in range(DRAWS)]
    for truth, estimates in (
        (mean, [mean_error(sample, 4.0) for sample in samples]),
        (math.sqrt(square), [root_mean_square(sample, 4.0) for sample in samples]),
    ):
        assert sum(it.low <= truth <= it.high for it in estimates) >= binom.ppf(1e-6, DRAWS, 0.95)


def test_an_enclosed_mean_reaches_from_what_was_found_to_what_is_proven():
    found, bound = np.linspace(0, 1, 400), np.linspace(0, 1, 400) + 0.5
    both = enclosed_mean(found, bound, 2.0)
    assert both.low == mean_error(found, 2.0).low
    assert both.high == mean_error(bound, 2.0).high
    assert both.value == pytest.approx(found.mean(), abs=1e-6)


def test_what_exceeds_the_largest_counts_as_that_much_and_so_does_what_is_no_number():
    wild = np.array([0.5, 3.0, math.inf, math.nan])
    assert mean_error(wild, 1.0).counts == mean_error(np.array([0.5, 1.0, 1.0, 1.0]), 1.0).counts


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_records_leave_the_whole_range(n):
    found = mean_error(np.full(n, 0.25), 8.0)
    assert (found.low, found.high, found.n) == (0.0, 8.0, n)


@given(
    st.lists(st.floats(0, 1e6), min_size=2, max_size=60),
    st.floats(1e-9, 1e9),
    st.sampled_from([0.6, 0.95, 0.9999]),
)
def test_holds_its_value_and_can_be_made_again_from_canonical_integers(errors, largest, confidence):
    for make in (mean_error, root_mean_square):
        found = make(np.array(errors), largest, confidence)
        kept = Estimate.from_json(canonical.loads(canonical.dumps(found.to_json())))
        assert kept == found
        again = restated(kept, 0.99)
        assert again == make(np.array(errors), largest, 0.99)
        assert again is not None
        assert 0 <= again.low <= again.value <= again.high <= largest * (1 + 1e-5)


def test_integers_stay_those_of_canonical_json_for_a_million_records():
    found = mean_error(np.full(1_000_000, 0.999), 1.0)
    assert max(found.counts.values()) < GREATEST
    assert found.value == pytest.approx(0.999, rel=1e-4)


def test_counts_that_were_tampered_with_do_not_count():
    found = mean_error(np.linspace(0, 1, 50), 1.0)
    better = Estimate.from_json(found.to_json() | {"counts": found.counts | {"squares": found.counts["squares"] // 2}})
    assert restated(better, 0.9) is None
    lower = Estimate.from_json(found.to_json() | {"low": found.low / 2})
    assert restated(lower, 0.9) is None


@pytest.mark.parametrize("largest", [0.0, -1.0, math.inf, math.nan])
def test_refuses_a_largest_error_that_is_none(largest):
    with pytest.raises(UnfitInput, match="largest"):
        mean_error(np.ones(3), largest)


def test_refuses_negative_errors():
    with pytest.raises(UnfitInput, match="at least 0"):
        mean_error(np.array([-0.1, 0.2]), 1.0)


def test_a_difference_is_the_published_formula_for_what_lies_between_plus_and_minus_the_largest():
    draw = np.random.default_rng(3)
    first, second = 5 * draw.beta(1, 4, 700), 5 * draw.beta(1, 3, 700)
    found = error_difference((first, first), (second, second), 5.0, 0.9)
    low, high = by_formula(first - second + 5.0, 10.0, 0.9)
    assert found.value == pytest.approx((first - second).mean(), abs=1e-4)
    assert (found.low, found.high) == pytest.approx((low - 5, high - 5), abs=1e-4)


def test_a_difference_of_what_is_only_enclosed_reaches_to_both_corners():
    draw = np.random.default_rng(4)
    first, second = draw.random(900), draw.random(900)
    found = error_difference((first, first + 0.2), (second, second + 0.3), 2.0)
    least = error_difference((first, first), (second + 0.3, second + 0.3), 2.0)
    most = error_difference((first + 0.2, first + 0.2), (second, second), 2.0)
    assert (found.low, found.high) == (least.low, most.high)
    assert found.value == pytest.approx((first - second).mean(), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.01, 1.0])
def test_a_difference_covers_the_truth_as_often_as_it_says_and_pairing_shortens_it(noise):
    """Statistical: two models that share what is hard of each record; 2,000 draws of 80, fails once in 10**6 seeds."""
    draw, covered, widths = np.random.default_rng(11), 0, []
    for _ in range(DRAWS):
        hard = 2 * draw.random(80)
        first, second = hard + 0.3 + noise * draw.random(80), hard + noise * draw.random(80)
        paired = error_difference((first, first), (second, second), 4.0)
        covered += paired.low <= 0.3 <= paired.high
        alone = [mean_error(each, 4.0, 0.975) for each in (first, second)]  # half of the error each
        widths.append((paired.high - paired.low) / sum(each.high - each.low for each in alone))
    assert covered >= binom.ppf(1e-6, DRAWS, 0.95)
    assert max(widths) < 0.93


def test_what_is_no_number_counts_as_the_largest_error_of_whichever_model():
    wild, tame = np.array([math.nan, math.inf, 9.0, 0.5]), np.array([0.25, 0.25, 0.25, 0.25])
    ours, theirs = error_difference((wild, wild), (tame, tame), 1.0), error_difference((tame, tame), (wild, wild), 1.0)
    assert ours.value == pytest.approx((3 * 0.75 + 0.25) / 4, abs=1e-6)
    assert theirs.value == pytest.approx(-ours.value, abs=1e-6)


@given(
    st.lists(st.tuples(*[st.floats(0, 1e6)] * 4), max_size=40),
    st.floats(1e-9, 1e9),
    st.sampled_from([0.6, 0.95, 0.9999]),
)
def test_a_difference_can_be_made_again_from_canonical_integers(given_errors, largest, confidence):
    a, b, c, d = np.array(given_errors).reshape(-1, 4).T
    errors, than = (np.minimum(a, b), np.maximum(a, b)), (np.minimum(c, d), np.maximum(c, d))
    found = error_difference(errors, than, largest, confidence)
    kept = Estimate.from_json(canonical.loads(canonical.dumps(found.to_json())))
    assert restated(kept, 0.99) == error_difference(errors, than, largest, 0.99)
    assert max(map(abs, found.counts.values())) < GREATEST
    moved = kept.counts | {"middle": kept.counts["middle"] - 2 * kept.n * kept.counts["scale"] - 1}
    assert restated(Estimate.from_json(kept.to_json() | {"counts": moved}), 0.99) is None


def test_a_difference_is_of_the_same_records():
    with pytest.raises(UnfitInput, match="the same records"):
        error_difference((np.ones(3), np.ones(3)), (np.ones(4), np.ones(4)), 1.0)
