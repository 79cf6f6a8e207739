"""Where a class is cut: prices by hand, bounds beside scipy's, and the mean of several ways to learn a cut."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from assay.filters import Floats, _refine
from assay.filters._cut import Cut, Limits, cut_along
from assay.filters._evidence import ClassScores

LIMITS = Limits(clean=60.0, share=0.5)


def banded() -> tuple[Floats, tuple[np.ndarray, np.ndarray]]:
    """Of 500 own records 20 lie above all others and 6 beside 12 of the 2,000 others."""
    own, others = np.repeat([3.0, 2.0, 0.0], [20, 6, 474]), np.repeat([2.0, 0.0], [12, 1988])
    inside = np.arange(2500) < 500
    return np.concatenate([own, others]), (inside, ~inside)


@pytest.mark.parametrize(("price", "goes", "others"), [(2.0, 20, 0), (1.1, 26, 12)])
def test_a_lower_price_of_clean_records_cuts_lower(price: float, goes: int, others: int) -> None:
    """4.6 clean ones may be among the six more: too many at two each, not at 1.1."""
    scores, sides = banded()
    cut = cut_along(scores, -np.inf, 0, sides, LIMITS, clean_cost=price)
    upper = binomtest(others, 2000, alternative="less").proportion_ci(0.95, "exact").high
    assert len(cut.chosen) == goes
    assert cut.clean == pytest.approx(474 / (1988 / 2000))
    assert cut.most == pytest.approx(cut.clean * upper)
    assert cut.gain == pytest.approx(goes - price * cut.most)


def test_no_price_goes_beyond_the_limits() -> None:
    scores, sides = banded()
    assert len(cut_along(scores, -np.inf, 0, sides, Limits(clean=4.0, share=0.5), clean_cost=1.1).chosen) == 20
    assert len(cut_along(scores, -np.inf, 0, sides, Limits(clean=60.0, share=0.1), clean_cost=1.1).chosen) == 20
    assert len(cut_along(scores, -np.inf, 0, sides, Limits(60.0, 0.5, records=25), clean_cost=1.1).chosen) == 20


def hard(seed: int, shift: float = 2.2) -> tuple[ClassScores, np.ndarray, _refine.Callable]:
    """40 planted of 400 own records, half of them noticed; two views, by default of little use."""
    rng = np.random.default_rng(seed)
    source, planted = np.arange(1600) % 4, np.zeros(1600, dtype=np.bool_)
    planted[np.flatnonzero(source == 2)[:40]] = True
    noticed = planted & (np.cumsum(planted) % 2 == 0)
    views = [rng.standard_normal((1600, width)) + shift * planted[:, None] * np.eye(width)[0] for width in (60, 90)]
    rows, score = np.arange(1600), rng.standard_normal(1600) + 1.5 * planted
    one = ClassScores(0, rows, 0, source, (score,), (-np.inf,), (1.0,), views)
    sides = source == 2, source != 2
    return one, planted, lambda use: _refine._Search(use, np.flatnonzero(noticed), sides, LIMITS, 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_the_stacks_ranks_above_their_mean(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand it is the mean, and its area under the curve is above the mean of the stacks' own."""
    one, planted, searched = hard(seed)
    own, kept, stacked = one.origins == 2, [], _refine._stacked
    monkeypatch.setattr(_refine, "_stacked", lambda *given: kept.append(list(stacked(*given))) or iter(kept[-1]))
    mean = _refine._judged(one, one.rows, searched)
    part = np.random.default_rng(1).permutation(1600) % 3
    stacks = np.empty((2, 1600))
    for leave, said in enumerate(kept):
        stacks[:, part == leave] = said
    np.testing.assert_allclose(mean, np.arcsinh(stacks).mean(axis=0))
    areas = [roc_auc_score(planted[own], stack[own]) for stack in stacks]
    assert roc_auc_score(planted[own], mean[own]) > np.mean(areas)


def test_records_that_are_gone_score_nothing() -> None:
    one, _, searched = hard(0)
    scores = _refine._judged(one, one.rows[:1500], searched)
    assert np.isneginf(scores[1500:]).all()
    assert np.isfinite(scores[:1500]).all()


@pytest.mark.parametrize(("gain", "stays"), [(1.0, False), (1e4, True)])
def test_the_first_cut_stays_where_the_mean_gains_much_less(gain: float, stays: bool) -> None:
    one, planted, _ = hard(1, shift=4.0)
    first = Cut(0, np.flatnonzero(planted)[::2], gain=gain, clean=360.0)
    gone = np.zeros(1600, dtype=np.bool_)
    cut = _refine.sharp_cut(one, [first], (2,), gone, one.origins == 2, LIMITS)[0]
    assert (cut is first) == stays
    assert stays or planted[cut.chosen].sum() > 30


@pytest.mark.parametrize(("price", "clean", "goes"), [(1.1, 60.0, 26), (1.1, 17.0, 20), (2.0, 60.0, 20)])
def test_the_last_cut_goes_lower_than_that_of_the_suspects(
    price: float, clean: float, goes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six more are a third of 18 allowed clean ones, and more than a third of 17."""
    scores, (own, _) = banded()
    monkeypatch.setattr(_refine, "_judged", lambda *_: scores)
    monkeypatch.setattr(_refine, "LAST_COST", price)
    one = ClassScores(0, np.arange(2500), 0, np.where(own, 0, 1), (scores,), (-np.inf,), (1.0,))
    first = Cut(0, np.arange(18), gain=17.0, clean=400.0)
    (cut,) = _refine.sharp_cut(one, [first], (0,), np.zeros(2500, dtype=np.bool_), own, Limits(clean, 0.5))
    np.testing.assert_array_equal(np.sort(cut.chosen), np.arange(goes))
