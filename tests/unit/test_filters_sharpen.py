"""From the first suspects to the whole sub-population: exact directions, invariances, and what stays behind."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from assay.filters import Floats, _refine
from assay.filters._sharpen import Discriminants, Stacked, roots, shrinkage
from assay.filters.decide import Decision, Scores, decide
from assay.filters.features import Space

NONE = np.empty(0, dtype=np.int64)


def cluster(seed: int = 0, n: int = 600, d: int = 12, bad: int = 60) -> tuple[Floats, np.ndarray]:
    """Correlated Gaussian rows; the first ``bad`` are shifted where the variance is small."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d)) * np.linspace(3, 0.3, d)
    rows = rng.standard_normal((n, d)) @ mixing
    planted = np.arange(n) < bad
    return rows + planted[:, None] * 7 * mixing[-1], planted


def test_the_direction_is_that_of_the_linear_discriminant_of_scikit_learn() -> None:
    """Independent implementation; many rows, so that the shrinkage of both is slight."""
    rows, planted = cluster(n=20_000, bad=5_000)
    fitted = Discriminants(rows)
    ours, middle = fitted.direction(planted)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", priors=[0.5, 0.5]).fit(rows, planted)
    assert np.corrcoef(fitted.rows @ ours, rows @ theirs.coef_[0])[0, 1] > 0.999
    assert ((fitted.rows @ ours - middle > 0) == (theirs.predict(rows) > 0)).mean() > 0.999


def test_the_shrinkage_is_that_of_scikit_learn() -> None:
    rows = np.random.default_rng(2).standard_normal((50, 20)) * np.geomspace(1, 9, 20)
    expected = ledoit_wolf_shrinkage(rows, assume_centered=True)
    assert shrinkage(rows.T @ rows / 50, float(((rows**2).sum(axis=1) ** 2).mean()), 50) == pytest.approx(expected)


def test_suspects_of_whom_half_are_missing_and_some_are_wrong_give_nearly_the_same_direction() -> None:
    rows, planted = cluster(n=20_000, bad=2_000)
    swapped = planted.copy()
    swapped[:1_000], swapped[2_000:2_100] = False, True
    fitted = Discriminants(rows)
    whole, noisy = (fitted.rows @ fitted.direction(suspects)[0] for suspects in (planted, swapped))
    assert np.corrcoef(whole, noisy)[0, 1] > 0.95


def test_shifting_and_scaling_the_columns_does_not_change_the_scores() -> None:
    rows, planted = cluster()
    scale, shift = np.geomspace(1e-3, 1e3, 12), np.linspace(-50, 50, 12)
    np.testing.assert_allclose(
        Discriminants(rows).scores(planted), Discriminants(rows * scale + shift).scores(planted), rtol=1e-4, atol=1e-4
    )


def test_a_clean_record_among_the_suspects_does_not_vouch_for_itself() -> None:
    """Wide rows and few suspects: fitted to itself every suspect would score high; held out, a wrong one does not."""
    rng = np.random.default_rng(1)
    rows, suspects = rng.standard_normal((300, 200)), np.arange(300) < 20
    rows[:10, :5] += 6
    fitted = Discriminants(rows)
    scores = fitted.scores(suspects)
    assert scores[:10].min() > scores[10:20].max()
    direction, middle = fitted.direction(suspects)
    assert roc_auc_score(suspects[10:], (fitted.rows @ direction - middle)[10:]) > 0.9
    assert roc_auc_score(suspects[10:], scores[10:]) < 0.8


@pytest.mark.parametrize("few", [0, 4])
def test_too_few_suspects_say_nothing(few: int) -> None:
    rows, _ = cluster()
    assert (Discriminants(rows).scores(np.arange(600) < few) == 0).all()


def test_constant_and_repeated_columns_give_finite_scores() -> None:
    rows, planted = cluster()
    rows[:, 3], rows[:, 4], rows[:, 5] = 7.0, planted, rows[:, 0]
    assert np.isfinite(Discriminants(rows).scores(planted)).all()
    assert np.isfinite(Discriminants(np.zeros((600, 2))).scores(planted)).all()


def test_a_stack_learns_from_few_suspects_what_a_wide_view_cannot() -> None:
    """Fifteen suspects in 200 columns that hardly know them, beside two detectors that do: the stack ranks by those."""
    rng = np.random.default_rng(4)
    planted = np.arange(900) < 30
    view = rng.standard_normal((900, 200)) + 1.5 * planted[:, None] * np.eye(200)[0]
    said = [rng.standard_normal(900) + shift * planted for shift in (2.5, 2.0)]
    suspects, judged = planted & (np.arange(900) % 2 == 0), np.arange(900) % 2 == 1
    fitted = [Discriminants(view[~judged])]
    stacked = Stacked(fitted, roots(said, 900)[~judged])
    whole = stacked.judge([view[judged]], roots(said, 900)[judged], suspects[~judged])
    alone = fitted[0].judge(view[judged], suspects[~judged])
    assert roc_auc_score(planted[judged], whole) > 0.95
    assert roc_auc_score(planted[judged], alone) < 0.8


def test_a_stack_of_no_view_is_the_discriminant_of_the_detectors() -> None:
    rows, planted = cluster()
    beside = roots([rows[:, 0], rows[:, 1] ** 2], 600)
    np.testing.assert_array_equal(Stacked((), beside).scores(planted), Discriminants(beside).scores(planted))
    np.testing.assert_allclose(beside[:, 1], np.abs(rows[:, 1]))
    np.testing.assert_allclose(beside[:, 0] * np.abs(beside[:, 0]), rows[:, 0])


@pytest.mark.parametrize(
    ("views", "detectors", "widths"), [(5, 8, [0, 2, 5]), (5, 0, [2, 5]), (2, 3, [0, 2]), (1, 1, [0, 1]), (1, 0, [1])]
)
def test_stacks_are_of_no_view_of_the_last_two_and_of_all(views: int, detectors: int, widths: list[int]) -> None:
    assert _refine._widths(views, detectors) == widths


def test_scores_by_different_proxies_have_no_part_in_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tells the proxies apart tells clean records of their sources apart, too."""
    rng = np.random.default_rng(0)
    source, planted = np.arange(1200) % 4, np.arange(1200) % 40 == 2
    own, others = rng.standard_normal(1200) + 8.0 * planted, rng.standard_normal(1200) + 1.0 * (source == 2)
    view, asked = rng.standard_normal((1200, 6)) + planted[:, None], []
    monkeypatch.setattr(_refine, "roots", lambda scores, records: asked.append(list(scores)) or roots(scores, records))
    decide(
        {"own": Scores(own, np.empty(0)), "others": Scores(others, np.empty(0), dispersion=2.0)},
        np.zeros(1200, dtype=np.int64),
        [f"s{k}" for k in source],
        np.empty(0, dtype=np.int64),
        false_alarm_rate=0.05,
        generator=np.random.default_rng(0),
        permutations=199,
        views=[Space(view, view[:0])],
    )
    assert [len(scores) for scores in asked] == [1] * len(asked)
    np.testing.assert_array_equal(asked[0][0], own)
    assert roots([], 5).shape == (5, 0)


def found_in(seed: int, views: bool = True, shift: float = 7.0) -> tuple[Decision, np.ndarray]:
    """One class of four sources; a detector that notices half of the 40 planted of one, and two views of all."""
    rng = np.random.default_rng(seed)
    source, planted = np.arange(1200) % 4, np.zeros(1200, dtype=np.bool_)
    planted[np.flatnonzero(source == 2)[:40]] = True
    noticed = planted & (np.cumsum(planted) % 2 == 0)
    score = rng.standard_normal(1200) + 6 * noticed + 2 * planted
    one = rng.standard_normal((1200, 10)) + shift * planted[:, None] * np.eye(10)[0]
    other = rng.standard_normal((1200, 6)) + shift * planted[:, None] * np.eye(6)[1]
    given = [Space(view, view[:0]) for view in (one, other)] if views else []
    decision = decide(
        {"d": Scores(score, np.empty(0))},
        np.zeros(1200, dtype=np.int64),
        [f"s{k}" for k in source],
        NONE,
        false_alarm_rate=0.01,
        permutations=199,
        generator=np.random.default_rng(seed),
        views=given,
    )
    return decision, planted


def test_half_noticed_is_whole_found() -> None:
    """Six scenes: nearly all planted records go with the views, hardly more than half without; few clean ones."""
    caught, lost, plain = [], [], []
    for seed in range(6):
        decision, planted = found_in(seed)
        caught.append(decision.removed[planted].mean())
        lost.append(decision.removed[~planted].mean())
        plain.append(found_in(seed, views=False)[0].removed[planted].mean())
    assert np.mean(caught) >= 0.99
    assert np.mean(lost) <= 0.005
    assert np.mean(plain) <= 0.75


def test_views_that_know_nothing_change_hardly_anything() -> None:
    """Shift 0: a discriminant of noise gains nothing, so the detector's own cut stays, or its own in three parts."""
    for seed in range(3):
        with_views, without = found_in(seed, shift=0.0)[0].removed, found_in(seed, views=False)[0].removed
        assert (with_views != without).sum() <= 8


def test_views_raise_no_alarm_by_themselves() -> None:
    """Clean scores beside views that tell the sources apart: 200 runs at 5 %; a correct build fails once in 10**6."""
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        source = np.arange(240) % 3
        view = rng.standard_normal((240, 4)) + 9.0 * (source == 1)[:, None]
        decision = decide(
            {"d": Scores(rng.standard_normal(240), np.empty(0))},
            np.zeros(240, dtype=np.int64),
            [f"s{k}" for k in source],
            NONE,
            false_alarm_rate=0.05,
            permutations=99,
            generator=rng,
            views=[Space(view, view[:0])],
        )
        alarms += bool(decision.removed.any())
    assert alarms <= binom.ppf(1 - 1e-6, 200, 0.05)


def test_a_sub_population_does_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that tells the source apart, honest records with it, is followed by a mutant without bounds only."""

    def removed() -> int:
        rng = np.random.default_rng(3)
        source, planted = np.arange(1200) % 4, np.zeros(1200, dtype=np.bool_)
        planted[np.flatnonzero(source == 2)[:40]] = True
        view = rng.standard_normal((1200, 4)) + 12.0 * (source == 2)[:, None]
        decision = decide(
            {"d": Scores(rng.standard_normal(1200) + 9 * planted, np.empty(0))},
            np.zeros(1200, dtype=np.int64),
            [f"s{k}" for k in source],
            NONE,
            false_alarm_rate=0.01,
            permutations=199,
            generator=np.random.default_rng(0),
            views=[Space(view, view[:0])],
        )
        assert decision.removed[planted].all()
        return int(decision.removed[~planted].sum())

    assert removed() <= 2
    monkeypatch.setattr(_refine, "GROWTH", 100.0)
    monkeypatch.setattr(_refine, "LEFT", 0.0)
    assert removed() > 100
