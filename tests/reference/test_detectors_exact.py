"""Scores of the detectors against formulas written out and independent implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import median_abs_deviation
from sklearn.cluster import DBSCAN
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest as Forest

from assay import catalog
from assay.sanitize.detect import _beyond, _cut

RNG = np.random.default_rng(8)
X = RNG.standard_normal((150, 3)) @ np.array([[1.0, 0.4, 0], [0, 2, 0], [0.3, 0, 1]])
OTHER = 2 * RNG.standard_normal((80, 3))
Y, OTHER_Y = np.arange(150) % 3, np.arange(80) % 3


def scores(name: str, same: bool = False, **settings: Any) -> Any:
    fitted = catalog.build("sanitize.detectors", name, settings).fit(X, Y, seed=0)
    return fitted(X, Y, same=True) if same else fitted(OTHER, OTHER_Y)


def scaled(x: Any) -> Any:
    return (x - np.median(X, axis=0)) / median_abs_deviation(X, axis=0, scale="normal")


def test_robust_z_is_that_of_scipy_s_deviation() -> None:
    np.testing.assert_allclose(scores("robust_z"), np.abs(scaled(OTHER)).max(axis=1), rtol=1e-4)


def test_tukey_is_one_and_a_half_at_the_inner_fence() -> None:
    low, high = np.percentile(X, [25, 75], axis=0)
    expected = (np.maximum(low - OTHER, OTHER - high) / (high - low)).max(axis=1)
    np.testing.assert_allclose(scores("tukey"), expected)
    fence = catalog.build("sanitize.detectors", "tukey", {}).fit(X, Y, seed=0)
    assert fence(np.array([[high[0] + 1.5 * (high[0] - low[0]), *np.median(X[:, 1:], axis=0)]]), Y[:1]) == 1.5


def test_mahalanobis_of_full_support_is_ledoit_and_wolf_s() -> None:
    """With every record in the support there is nothing to concentrate: scikit-learn's estimator, square root taken."""
    peer = LedoitWolf().fit(scaled(X))
    expected = np.sqrt(peer.mahalanobis(scaled(OTHER)))
    np.testing.assert_allclose(scores("mahalanobis", support=1.0), expected, rtol=1e-3)


def test_mahalanobis_is_not_moved_by_a_fifth_of_outliers() -> None:
    spoiled = np.concatenate([X, np.full((37, 3), 50.0) + RNG.standard_normal((37, 3))])
    member = catalog.build("sanitize.detectors", "mahalanobis", {})
    clean, moved = (member.fit(x, np.zeros(len(x), np.int64), seed=0)(OTHER, OTHER_Y) for x in (X, spoiled))
    assert np.corrcoef(clean, moved)[0, 1] > 0.98
    assert np.median(moved / clean) < 2


def test_dbscan_noise_is_what_lies_beyond_one_radius() -> None:
    """Reference: scikit-learn's DBSCAN with the radius of the k-distance quantile; distances to its core records."""
    z = scaled(X)
    reach = np.sort(cdist(z, z), axis=1)[:, 4]
    radius = np.quantile(reach, 0.9)
    core = DBSCAN(eps=radius, min_samples=5).fit(z).core_sample_indices_
    expected = cdist(scaled(OTHER), z[core]).min(axis=1) / radius
    np.testing.assert_allclose(scores("dbscan"), expected, rtol=1e-4)


def test_kmeans_is_the_distance_from_the_nearest_centre_over_its_median() -> None:
    z, w = scaled(X), scaled(OTHER)
    away = np.linalg.norm(z - z.mean(axis=0), axis=1)
    expected = np.linalg.norm(w - z.mean(axis=0), axis=1) / np.median(away)
    np.testing.assert_allclose(scores("kmeans", clusters=1), expected, rtol=1e-3)


def test_isolation_forest_is_that_of_scikit_learn() -> None:
    peer = Forest(n_estimators=100, max_samples=150, random_state=0).fit(X.astype(np.float32))
    np.testing.assert_allclose(scores("isolation_forest"), -peer.score_samples(OTHER.astype(np.float32)))


def test_near_duplicates_are_the_nearest_other_record() -> None:
    distance = cdist(scaled(X), scaled(X)) + np.diag(np.full(150, np.inf))
    np.testing.assert_allclose(scores("near_duplicates", same=True), -distance.min(axis=1) / np.sqrt(3), rtol=1e-4)
    away = cdist(scaled(OTHER), scaled(X)).min(axis=1)
    np.testing.assert_allclose(scores("near_duplicates"), -away / np.sqrt(3), rtol=1e-4)


def test_neighbour_labels_weigh_by_rank() -> None:
    order = np.argsort(cdist(scaled(OTHER), scaled(X)), axis=1)[:, :3]
    weight = np.array([1, 1 / 2, 1 / 3])
    expected = [(weight * (Y[near] != label)).sum() / weight.sum() for near, label in zip(order, OTHER_Y, strict=True)]
    np.testing.assert_allclose(scores("neighbour_labels", neighbours=3), expected)


def test_confident_learning_knows_which_labels_were_flipped() -> None:
    """30 of 300 labels flipped on two Gaussians 3 apart: the highest scores are those; a flip reverses the score."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    x = rng.standard_normal((300, 2)) + 3.0 * y[:, None]
    fitted = catalog.build("sanitize.detectors", "confident_learning", {}).fit(x, y, seed=0)
    flipped = y.copy()
    flipped[:30] = 1 - flipped[:30]
    got = fitted(x, flipped)
    assert np.isin(np.argsort(-got)[:30], np.arange(30)).sum() >= 28
    np.testing.assert_allclose(fitted(x, y), -fitted(x, 1 - y))
    assert (fitted(x[:5], np.full(5, 7)) > 0).all()  # a class nobody knows


@pytest.mark.slow
def test_the_autoencoder_reconstructs_the_plane_it_has_seen_and_nothing_off_it() -> None:
    rng = np.random.default_rng(0)
    plane = rng.uniform(-1, 1, (600, 2)) @ np.array([[1.0, 0, 1, 0.5], [0, 1, -1, 0.5]])
    fitted = catalog.build("sanitize.detectors", "autoencoder", {"epochs": 150}).fit(plane, np.zeros(600, int), seed=0)
    off = plane[:50] + np.array([1.0, 1, 1, -1])
    assert np.median(fitted(off, np.zeros(50, int))) > 20 * np.median(fitted(plane, np.zeros(600, int)))


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05, 0.07, 0.29, 0.5])
@pytest.mark.parametrize("count", [1, 19, 99, 100, 999])
def test_the_cut_is_where_the_conformal_p_value_reaches_the_rate(rate: float, count: int) -> None:
    """Reference: p-values counted one by one, in integers."""
    reference = np.sort(np.random.default_rng(count).integers(0, 40, count).astype(float))
    cut = _cut(reference, rate)
    for score in (*np.unique(reference), reference.max() + 1, reference.min() - 1):
        above = 1 + int((reference >= score).sum())
        assert (score > cut) == (above <= round(rate * 1000) * (count + 1) / 1000)
    assert _beyond(rate, count) == (round(rate * 1000) * (count + 1)) // 1000
