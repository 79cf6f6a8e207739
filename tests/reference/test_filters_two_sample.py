"""Whether a source's records lie elsewhere: moments over all choices, Hotelling's statistic, the level, and power."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, chi2

from assay.errors import UnfitInput
from assay.filters import Floats, _cut, _removal
from assay.filters._evidence import Cell, ClassScores
from assay.filters._shift import RIDGE, Shift, whitening
from assay.filters.decide import Decision, Scores, decide
from assay.filters.features import Space
from assay.filters.two_sample import TwoSample

NONE = np.empty(0, dtype=np.int64)


def heavy(seed: int, n: int, d: int) -> Floats:
    """Rows of one distribution whose lengths have no variance."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_normal((n, d)) / rng.random((n, 1)))


def distance(rows: Floats, inside: np.ndarray) -> float:
    """By definition: squared distance of the two means, times n1 n2 / n."""
    apart = rows[inside].mean(axis=0) - rows[~inside].mean(axis=0)
    return float(apart @ apart * inside.sum() * (~inside).sum() / len(rows))


@pytest.mark.parametrize(("size", "own"), [(7, 3), (6, 1), (8, 2), (5, 4)])
def test_mean_and_variance_are_those_over_all_choices(size: int, own: int) -> None:
    """Every choice of so many records, one by one."""
    shift = Shift.of(heavy(size, size, 3).astype(np.float32))
    rows = shift.rows.astype(np.float64)
    chosen = itertools.combinations(range(size), own)
    found = [distance(rows, np.isin(np.arange(size), one)) for one in chosen]
    assert shift._moments(own) == pytest.approx((np.mean(found), np.var(found)), rel=1e-5)


def test_of_gaussian_rows_the_surprise_is_that_of_the_chi_squared_distribution() -> None:
    """Hotelling's statistic with a known covariance: scipy's survival function at the same distance."""
    rng = np.random.default_rng(0)
    for apart in (0.0, 0.2, 0.4):
        rows = rng.standard_normal((4000, 12))
        inside = np.arange(4000) < 1000
        rows[inside, 0] += apart
        ours = Shift.of(rows.astype(np.float32)).surprise(inside[None])[0]
        assert ours == pytest.approx(-chi2.logsf(distance(rows, inside), 12), rel=0.12, abs=0.1)


def test_whitening_makes_the_covariance_within_classes_the_identity_whatever_the_blocks() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 3000)
    rows = rng.standard_normal((3000, 6)) @ rng.standard_normal((6, 6)) + 50 * labels[:, None]
    whole = whitening(iter([(rows, labels)]), 6)
    parts = whitening(((rows[at : at + 700], labels[at : at + 700]) for at in range(0, 3000, 700)), 6)
    np.testing.assert_allclose(parts(rows), whole(rows), rtol=1e-3, atol=1e-3)
    within = np.concatenate([rows[labels == k] - rows[labels == k].mean(axis=0) for k in range(3)])
    covariance = within.T @ within / 3000
    ridge = RIDGE * np.trace(covariance) / 6 * np.eye(6)
    turned = np.concatenate([whole(rows)[labels == k] for k in range(3)]).astype(np.float64)
    sizes = np.cumsum([0, *np.bincount(labels)])
    turned = np.concatenate([turned[a:b] - turned[a:b].mean(axis=0) for a, b in itertools.pairwise(sizes)])
    expected = np.linalg.inv(np.linalg.cholesky(covariance + ridge))
    np.testing.assert_allclose(turned.T @ turned / 3000, expected @ covariance @ expected.T, atol=1e-3)


def test_a_record_is_left_out_of_the_mean_that_it_is_compared_with() -> None:
    """One by one, by definition."""
    rows = Shift.of(heavy(2, 20, 4).astype(np.float32)).rows.astype(np.float64)
    own = np.arange(20) < 8
    apart = np.linalg.norm(rows[own].mean(axis=0) - rows[~own].mean(axis=0))
    expected = []
    for k, row in enumerate(rows):
        rest = np.arange(20) != k
        near, far = rows[own & rest].mean(axis=0), rows[~own & rest].mean(axis=0)
        expected.append((((row - far) ** 2).sum() - ((row - near) ** 2).sum()) / (2 * apart))
    np.testing.assert_allclose(Shift.of(rows.astype(np.float32)).along(own, ~own), expected, rtol=1e-4)


def verdict(
    rows: Floats, labels: np.ndarray, source: np.ndarray, seed: int = 0, permutations: int = 199, **options: Any
) -> Decision:
    """By this detector alone."""
    member, origins = TwoSample(), [f"s{k}" for k in source]
    instrument = options.pop("instrument", True)
    whitened = member.whitened(Space(rows, rows[:0]), labels, NONE)
    scores, none = member.scores(whitened, labels, NONE, origins)
    return decide(
        {"two_sample": Scores(scores, none, instrument=instrument, compared=whitened)},
        labels,
        origins,
        NONE,
        false_alarm_rate=0.05,
        permutations=permutations,
        generator=np.random.default_rng(seed),
        views=[Space(rows, rows[:0])],
        **options,
    )


def test_the_level_is_exact_on_rows_without_a_variance() -> None:
    """400 datasets of two classes and three sources at p <= 0.1: more than binomial luck allows (10**-6) would fail."""
    alarms = 0
    for seed in range(400):
        labels, source = np.arange(60) % 2, np.arange(60) // 2 % 3
        found = verdict(heavy(seed, 60, 5), labels, source, seed, 39, instrument=False)
        alarms += min(one.p_value for one in found.classes if one.p_value is not None) <= 0.1
    assert binom.ppf(1e-6, 400, 0.1) <= alarms <= binom.ppf(1 - 1e-6, 400, 0.1)


def planted(bad: int = 40, apart: float = 10.0, d: int = 150) -> tuple[Floats, np.ndarray, np.ndarray, np.ndarray]:
    """Two thousand records of four classes and four sources; some of one are moved along one of many directions."""
    rng = np.random.default_rng(3)
    labels, source = np.arange(4000) % 4, np.arange(4000) // 4 % 4
    rows = rng.standard_normal((4000, d)) * rng.uniform(0.5, 2, d)
    moved = np.flatnonzero((labels == 1) & (source == 2))[:bad]
    rows[moved, 7] += apart * rows[:, 7].std()
    return rows, labels, source, np.isin(np.arange(4000), moved)


def test_a_few_moved_records_are_noticed_and_told_apart() -> None:
    """Of 250 records of the class and source 20, moved along one of 150 directions."""
    rows, labels, source, bad = planted(20)
    found = verdict(rows, labels, source)
    assert [one.status for one in found.classes] == ["clean", "poisoned", "clean", "clean"]
    assert found.classes[1].origin == "s2"
    assert found.removed[bad].sum() >= 19
    assert found.removed[~bad].sum() <= 2


def test_an_innocent_source_is_no_suspect_because_it_is_compared_with_a_guilty_one() -> None:
    """A shift of one source moves the mean of the others': with so many moved all are flagged, one loses records."""
    rows, labels, source, bad = planted(120)
    found = verdict(rows, labels, source)
    assert found.removed[bad].mean() >= 0.99
    assert found.removed[~bad].sum() <= 2


def test_a_source_with_more_of_a_common_kind_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of an honest source's class is of a kind that is a fifteenth of the others': the answer is ``differs``.

    Without the rule that what goes is ten times rarer elsewhere, the kind would go: there is room for it.
    """
    rng = np.random.default_rng(4)
    labels, source = np.arange(20_000) % 4, np.arange(20_000) // 4 % 4
    rows = rng.standard_normal((20_000, 10))
    kind = (labels == 1) & (rng.random(20_000) < np.where(source == 2, 0.33, 0.067))
    rows[kind, 7] += 8
    found = verdict(rows, labels, source, clean_loss=0.05)
    assert found.classes[1].status == "differs"
    assert not found.removed.any()
    monkeypatch.setattr(_cut, "RARE", 0.5)
    assert verdict(rows, labels, source, clean_loss=0.05).removed.sum() > 100


@pytest.mark.parametrize("classes", [2, 4])
def test_a_source_with_another_instrument_is_no_suspect_nor_are_those_compared_with_it(classes: int) -> None:
    rng = np.random.default_rng(5)
    labels, source = np.arange(1200) % classes, np.arange(1200) // classes % 3
    rows = rng.standard_normal((1200, 6)) + 0.7 * (source == 1)[:, None]
    found = verdict(rows, labels, source)
    assert {one.status for one in found.classes} == {"unmeasured"}  # no other detector was asked
    assert "s1" in found.set_aside["two_sample"]
    assert not found.removed.any()


def test_origins_of_another_length_are_refused() -> None:
    with pytest.raises(UnfitInput, match="one a record"):
        TwoSample().suspicion(np.ones((4, 2)), np.array([0, 0, 1, 1]), origins=["a", "b"])


def test_where_there_is_nothing_to_compare_with_scores_are_zero() -> None:
    assert not TwoSample().suspicion(np.random.default_rng(0).random((9, 2)), np.arange(9) % 2).any()
    assert not TwoSample().suspicion(np.ones((9, 2)), np.arange(9) % 2, origins=list("abcabcabc")).any()


def test_of_those_compared_as_a_whole_the_most_different_alone_is_a_suspect() -> None:
    """The others are measured by the rest, which would be one source of four here; other detectors' suspects remain."""
    one = ClassScores(0, NONE, 0, NONE, (), (), (), compared={1: lambda: np.empty((0, 1), np.float32)})
    compared = [Cell(1, (0,), 12.0), Cell(1, (2,), 80.0), Cell(1, (1,), 15.0), Cell(1, (0, 1, 2, 3), 90.0)]
    assert _removal._suspects(one, compared) == (2,)
    assert _removal._suspects(one, [*compared, Cell(0, (1,), 9.0), Cell(0, (3,), 8.0)]) == (1, 2, 3)
