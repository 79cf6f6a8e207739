"""Drift statistics against scipy, against enumeration of every split, and against closed forms."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2 as chi_square
from scipy.stats import chi2_contingency, ks_2samp, multivariate_hypergeom

from assay.drift import tables
from assay.drift.chi2 import ChiSquare
from assay.drift.decide import holm
from assay.drift.ks import KolmogorovSmirnov
from assay.drift.psi import PopulationStability


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def measure(member: Any, reference: Any, current: Any, level: float = 0.01) -> Any:
    return member(np.asarray(reference), np.asarray(current), level=level, generator=rng())


def greatest_distance(reference: np.ndarray, current: np.ndarray) -> float:
    """The statistic by its definition."""
    points = np.concatenate([reference, current])
    return float(max(abs((reference <= x).mean() - (current <= x).mean()) for x in points))


def test_ks_p_value_is_the_share_of_all_splits_at_least_as_far_apart() -> None:
    reference, current = rng(1).normal(size=6), rng(2).normal(0.8, size=5)
    pooled = np.concatenate([reference, current])
    found = measure(KolmogorovSmirnov(), reference, current)
    assert found.value == pytest.approx(greatest_distance(reference, current))
    far = 0
    splits = list(combinations(range(11), 6))
    for chosen in splits:
        mask = np.isin(np.arange(11), chosen)
        far += greatest_distance(pooled[mask], pooled[~mask]) >= found.value - 1e-9
    assert found.p_value == pytest.approx(far / len(splits), abs=1e-12)


@pytest.mark.parametrize(("n", "m", "method"), [(40, 30, "exact"), (10_000, 700, "exact"), (10_001, 900, "asymp")])
def test_ks_equals_scipy(n: int, m: int, method: str) -> None:
    reference, current = rng(3).normal(size=n), rng(4).normal(0.1, size=m)
    found, other = measure(KolmogorovSmirnov(), reference, current), ks_2samp(reference, current, method=method)
    assert (found.value, found.p_value) == (other.statistic, pytest.approx(other.pvalue, abs=1e-15))


def test_ks_exact_and_asymptotic_agree_where_one_takes_over() -> None:
    """Below, at equal sizes, the asymptotic p-value is up to 7 % too small: hence the exact one so far up."""
    reference, current = rng(5).normal(size=10_000), rng(6).normal(0.045, size=10_000)
    exact = measure(KolmogorovSmirnov(), reference, current).p_value
    assert 1e-4 < exact < 0.2
    assert measure(KolmogorovSmirnov(exact_up_to=0), reference, current).p_value == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize(("n", "m"), [(5000, 5000), (5000, 3001), (20_000, 20_000)])
def test_a_p_value_below_the_smallest_float_stays_above_zero(n: int, m: int) -> None:
    far = measure(KolmogorovSmirnov(), rng(1).normal(size=n), rng(2).normal(19.0, size=m))
    assert 0 < far.p_value < 1e-300


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (0.25, 0.25, 0.25, 0.25), (0.9, 0.1)])
def test_chi2_equals_scipy_where_cells_are_full(shares: tuple[float, ...]) -> None:
    names = np.array(list("abcd"[: len(shares)]))
    reference, current = rng(7).choice(names, 900, p=shares), rng(8).choice(names, 500)
    found = measure(ChiSquare(), reference, current)
    table = [[(sample == name).sum() for name in names] for sample in (reference, current)]
    other = chi2_contingency(table, correction=False)
    assert found.value == pytest.approx(other.statistic, rel=1e-12)
    assert found.p_value == pytest.approx(other.pvalue, rel=1e-9)


def test_chi2_with_rare_categories_matches_the_sum_over_every_table() -> None:
    """The exact permutation p-value: all tables of these margins, each with its hypergeometric chance."""
    before, now = np.array([9, 6, 4, 1]), np.array([4, 2, 1, 5])
    reference, current = (np.repeat(list("abcd"), count) for count in (before, now))
    pooled, size = before + now, int(now.sum())
    seen = chi2_contingency([before, now], correction=False).statistic
    exact = 0.0
    for a in range(pooled[0] + 1):
        for b in range(pooled[1] + 1):
            for c in range(pooled[2] + 1):
                drawn = np.array([a, b, c, size - a - b - c])
                if drawn[3] < 0 or drawn[3] > pooled[3]:
                    continue
                value = chi2_contingency([pooled - drawn, drawn], correction=False).statistic
                exact += multivariate_hypergeom.pmf(drawn, pooled, size) * (value >= seen - 1e-9)
    found = measure(ChiSquare(), reference, current, level=1e-4)
    spread = 5 * np.sqrt(exact * (1 - exact) / 100_000)  # five standard errors of the Monte Carlo: 6e-7
    assert found.p_value == pytest.approx(exact, abs=spread + 1e-5)
    assert exact < 0.1, "else only the first look would be tested"


def test_chi2_of_small_counts_counts_tables_as_extreme_as_the_one_seen() -> None:
    """Two categories: the exact p-value sums few, heavy tables; the chi-square distribution would say 0.004."""
    before, now = np.array([8, 2]), np.array([1, 7])
    pooled = before + now
    chances = {a: multivariate_hypergeom.pmf([a, 8 - a], pooled, 8) for a in range(9)}
    values = {a: chi2_contingency([pooled - [a, 8 - a], [a, 8 - a]], correction=False).statistic for a in chances}
    exact = sum(chances[a] for a in chances if values[a] >= values[1] - 1e-9)
    reference, current = (np.repeat(["a", "b"], count) for count in (before, now))
    found = measure(ChiSquare(), reference, current, level=1e-4)
    assert chances[1] > 3 * (spread := 5 * np.sqrt(exact * (1 - exact) / 100_000)), "else the tie would not show"
    assert found.p_value == pytest.approx(exact, abs=spread)


def test_a_category_never_seen_before_is_found() -> None:
    reference = np.repeat(["a", "b"], [600, 400])
    found = measure(ChiSquare(), reference, np.repeat(["a", "b", "new"], [55, 37, 8]), level=1e-4)
    assert found.p_value <= 1e-4


def test_psi_is_the_symmetrised_divergence() -> None:
    before, now = np.array([50, 30, 20]), np.array([20, 30, 50])
    p, q = (before + 0.5) / 101.5, (now + 0.5) / 101.5
    assert float(tables.psi(before, now)) == pytest.approx(sum((q - p) * np.log(q / p)), rel=1e-12)
    assert float(tables.psi(before, now)) == pytest.approx(float(tables.psi(now, before)), rel=1e-12)
    assert float(tables.psi(before, before)) == 0.0


def test_psi_of_two_normals_approaches_the_closed_form() -> None:
    """Of N(0, 1) and N(d, 1) it is d**2; cells of equal shares lose a little of it."""
    reference, current = rng(9).normal(size=200_000), rng(10).normal(0.3, size=200_000)
    before, now = tables.counts(reference, current, bins=200)
    assert float(tables.psi(before, now)) == pytest.approx(0.09, rel=0.05)


@pytest.mark.parametrize("bins", [5, 10])
def test_psi_null_quantile_is_the_quantile_of_an_unchanged_world(bins: int) -> None:
    """Statistical: of 4,000 unchanged windows 1 in 20 lies above, within five standard errors."""
    draw, above, windows = rng(11), 0, 4000
    quantile = measure(PopulationStability(bins=bins), draw.normal(size=800), draw.normal(size=600), 0.05).null_quantile
    for _ in range(windows):
        before, now = tables.counts(draw.normal(size=800), draw.normal(size=600), bins)
        above += float(tables.psi(before, now)) > quantile
    assert abs(above / windows - 0.05) < 5 * np.sqrt(0.05 * 0.95 / windows)


def test_cells_hold_equal_shares_of_both_samples_together() -> None:
    before, now = tables.counts(rng(12).normal(size=700), rng(13).normal(1.0, size=300), bins=10)
    assert set(before + now) == {100}


@settings(max_examples=60)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60),
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60),
    st.integers(2, 12),
)
def test_no_record_is_lost_or_doubled_in_cells(reference: list[float], current: list[float], bins: int) -> None:
    before, now = tables.counts(np.array(reference), np.array(current), bins)
    assert (before.sum(), now.sum()) == (len(reference), len(current))
    assert (before + now > 0).all()
    assert len(before) <= bins


@settings(max_examples=100)
@given(st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=30), st.floats(0.001, 0.2))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], alpha: float) -> None:
    """Reference: go up from the smallest, stop at the first above alpha / (m - k)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    rejected = set()
    for k, place in enumerate(order):
        if p_values[place] * (len(p_values) - k) > alpha:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_a_level_that_permutations_cannot_reach_is_refused() -> None:
    from assay.errors import UnfitInput

    with pytest.raises(UnfitInput, match="level"):
        measure(PopulationStability(), rng(1).normal(size=500), rng(2).normal(2.0, size=500), level=1e-7)


def test_chi_square_tail_is_scipys() -> None:
    found = measure(ChiSquare(), np.repeat(["a", "b"], 500), np.repeat(["a", "b"], [260, 240]), 0.01)
    assert found.null_quantile == pytest.approx(chi_square.isf(0.01, 1))
