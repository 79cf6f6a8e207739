"""The detectors against the published formulas, closed forms, and independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.distance import mahalanobis
from scipy.special import log_softmax
from scipy.stats import chi2_contingency, hypergeom
from sklearn.cluster import KMeans
from sklearn.covariance import MinCovDet
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier

from assay.filters import Filter, Floats, Labels
from assay.filters._evidence import statistic
from assay.filters._linear import principal, scatter
from assay.filters.activation_clustering import ActivationClustering, two_means
from assay.filters.decide import Scores, decide
from assay.filters.disagreement import Disagreement
from assay.filters.neighbours import Neighbours
from assay.filters.quantum_entropy import QuantumEntropy, entropy_score, robust_whitening
from assay.filters.spectral import Spectral
from assay.filters.trusted_mahalanobis import TrustedMahalanobis


def two_classes(seed: int = 0, n: int = 60, d: int = 7) -> tuple[Floats, Labels]:
    """Two classes of correlated Gaussian features, far from the origin."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 50.0 * (1 + labels[:, None]), labels


def spectral_by_svd(features: Floats, labels: Labels, *, centred: bool = True) -> Floats:
    """Algorithm 1 of Tran et al. (2018), literally: M centred, v its top right singular vector, (r_i - mean) . v."""
    scores = np.empty(len(features))
    for label in set(labels.tolist()):
        rows = labels == label
        matrix = features[rows] - features[rows].mean(axis=0)
        top = np.linalg.svd(matrix, full_matrices=False)[2][0]
        scores[rows] = ((matrix if centred else features[rows]) @ top) ** 2
    return scores


def test_spectral_score_is_that_of_the_paper() -> None:
    features, labels = two_classes()
    np.testing.assert_allclose(Spectral().suspicion(features, labels), spectral_by_svd(features, labels), rtol=1e-8)


def test_the_uncentred_score_of_the_libraries_is_another_one() -> None:
    """ART and the authors' code project uncentred rows; the order of records is then another."""
    features, labels = two_classes()
    ours, theirs = Spectral().suspicion(features, labels), spectral_by_svd(features, labels, centred=False)
    assert np.corrcoef(ours[labels == 0], theirs[labels == 0])[0, 1] < 0.5


@pytest.mark.parametrize("directions", [1, 3])
def test_spectral_score_agrees_with_the_principal_components_of_scikit_learn(directions: int) -> None:
    features, labels = two_classes(1)
    rows = labels == 1
    expected = (PCA(directions).fit_transform(features[rows]) ** 2).sum(axis=1)
    ours = Spectral(directions=directions).suspicion(features, labels)[rows]
    np.testing.assert_allclose(ours, expected, rtol=1e-8)


def test_spectral_score_on_one_known_direction_is_the_squared_deviation_along_it() -> None:
    """Closed form: x_i = m + a_i u with a unit vector u gives (a_i - mean a)^2."""
    rng = np.random.default_rng(2)
    direction = np.array([3.0, 0.0, 4.0]) / 5
    a = rng.standard_normal(40)
    features = np.array([100.0, -7.0, 20.0]) + a[:, None] * direction
    scores = Spectral().suspicion(features, np.zeros(40, dtype=np.int64))
    np.testing.assert_allclose(scores, (a - a.mean()) ** 2, atol=1e-9)


def test_principal_directions_are_eigenvectors_leading_first() -> None:
    rows = np.random.default_rng(3).standard_normal((30, 5)) * [1, 5, 2, 4, 3]
    gram = scatter(rows)[2]
    np.testing.assert_allclose(gram, 29 * np.cov(rows.T), rtol=1e-10)
    basis = principal(gram, 3)
    values = np.diag(basis.T @ gram @ basis)
    np.testing.assert_allclose(values, np.sort(np.linalg.eigvalsh(gram))[::-1][:3], rtol=1e-10)


def test_distance_with_no_prior_and_next_to_no_ridge_is_the_mahalanobis_distance_of_scipy() -> None:
    """All directions kept: the score is the squared distance under the trusted records' own sample covariance."""
    features, labels = two_classes(4)
    trusted, trusted_labels = two_classes(5)
    member = TrustedMahalanobis(directions=7, prior=0, ridge=1e-13)
    scores = member.suspicion(features, labels, trusted_features=trusted, trusted_labels=trusted_labels)
    for label in (0, 1):
        own = trusted[trusted_labels == label]
        inverse = np.linalg.inv(np.cov(own.T))
        expected = [mahalanobis(row, own.mean(axis=0), inverse) ** 2 for row in features[labels == label]]
        np.testing.assert_allclose(scores[labels == label], expected, rtol=1e-6)


def test_distance_with_full_ridge_is_euclidean_in_units_of_the_mean_trusted_variance() -> None:
    """Closed form of the other end: covariance = mean variance times identity."""
    features, labels = two_classes(6)
    trusted, trusted_labels = two_classes(7)
    member = TrustedMahalanobis(directions=7, prior=0, ridge=1.0)
    scores = member.suspicion(features, labels, trusted_features=trusted, trusted_labels=trusted_labels)
    own = trusted[trusted_labels == 0]
    expected = ((features[labels == 0] - own.mean(axis=0)) ** 2).sum(axis=1) / own.var(axis=0, ddof=1).mean()
    np.testing.assert_allclose(scores[labels == 0], expected, rtol=1e-8)


def test_two_means_finds_the_partition_that_scikit_learn_finds() -> None:
    rng = np.random.default_rng(8)
    points = rng.standard_normal((90, 3)) + np.where(np.arange(90) < 30, 7.0, 0.0)[:, None]
    points -= points.mean(axis=0)
    points = points @ principal(points.T @ points, 3)
    small = two_means(points)
    theirs = KMeans(2, n_init=10, random_state=0).fit_predict(points)
    assert small.sum() == 30
    assert len(set(zip(small.tolist(), theirs.tolist(), strict=True))) == 2


def test_clustering_score_orders_records_as_the_posterior_of_two_equal_gaussians_does() -> None:
    """With one spread for both, the log-odds of the smaller component rise along the line between the centres."""
    rng = np.random.default_rng(9)
    member = np.arange(200) < 50
    features = rng.standard_normal((200, 4)) + np.where(member, 8.0, 0.0)[:, None]
    scores = ActivationClustering(directions=1).suspicion(features, np.zeros(200, dtype=np.int64))
    mixture = GaussianMixture(2, covariance_type="tied", random_state=0).fit(features)
    small = mixture.predict(features) == mixture.predict(features[:1])
    assert ((scores > 0) == small).all()
    assert ((scores > 0) == member).all()


def test_without_the_guard_half_of_a_clean_class_would_be_suspect() -> None:
    """One Gaussian: the published rule points at its smaller half; the guard scores every record 0."""
    features = np.random.default_rng(10).standard_normal((300, 6))
    labels = np.zeros(300, dtype=np.int64)
    assert (ActivationClustering(separation=0).suspicion(features, labels) > 0).mean() > 0.3
    assert (ActivationClustering().suspicion(features, labels) == 0).all()


def test_disagreement_is_the_log_odds_against_the_label() -> None:
    rng = np.random.default_rng(11)
    logits, labels = rng.standard_normal((50, 4)) * 3, rng.integers(0, 4, 50)
    logged = log_softmax(logits, axis=1)
    scores = Disagreement().suspicion(logged, labels)
    expected = [max(np.delete(row, label)) - row[label] for row, label in zip(logits, labels, strict=True)]
    np.testing.assert_allclose(scores, expected, atol=1e-12)
    assert ((scores > 0) == (logits.argmax(axis=1) != labels)).all()


def test_neighbour_score_is_the_share_that_scikit_learns_classifier_gives_to_other_labels() -> None:
    rng = np.random.default_rng(12)
    features, labels = rng.standard_normal((80, 3)), rng.integers(0, 2, 80)
    scores = Neighbours(k=5).suspicion(features, labels)
    for row in range(80):
        others = np.arange(80) != row
        vote = KNeighborsClassifier(5).fit(features[others], labels[others]).predict_proba(features[row : row + 1])
        assert scores[row] == pytest.approx(1 - vote[0, labels[row]])


def test_p_value_of_one_comparison_is_that_of_the_exact_hypergeometric_test() -> None:
    """Scores of two values leave one cut: with one class and two origins the test is Fisher's exact one.

    Of 12 high scores among 60 records, 9 come from a source of 30 (the other source's excess mirrors it, so both sides
    count): P(|X - 6| >= 3) by the hypergeometric law. 20,000 permutations: within 6 standard errors, which a correct
    build misses in fewer than 10**-8 of seeds.
    """
    high = np.zeros(60)
    high[[*range(9), *range(30, 33)]] = 1
    scores = {"one": Scores(high, np.empty(0))}
    verdict = decide(
        scores,
        np.zeros(60, dtype=np.int64),
        ["a"] * 30 + ["b"] * 30,
        np.empty(0, dtype=np.int64),
        false_alarm_rate=0.05,
        permutations=20_000,
        generator=np.random.default_rng(0),
    ).classes[0]
    law = hypergeom(60, 30, 12)
    exact = law.sf(8) + law.cdf(3)
    assert verdict.p_value == pytest.approx(exact, abs=6 * np.sqrt(exact * (1 - exact) / 20_000))


def test_statistic_is_the_likelihood_ratio_of_the_two_by_two_table() -> None:
    """Independent implementation: scipy's log-likelihood contingency statistic, which is twice ours."""
    inside = np.zeros((1, 50), dtype=np.bool_)
    inside[0, [0, 1, 2, 4, 5, 20, 21, 30]] = True
    for cut in (3, 6, 10):
        above = inside[0, :cut].sum()
        table = [[above, cut - above], [8 - above, 42 - cut + above]]
        expected = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic / 2
        assert statistic(inside, np.array([cut]))[0] == pytest.approx(expected)


@pytest.mark.parametrize("member", [Spectral(), ActivationClustering(separation=0)])
def test_constant_features_score_nothing_and_never_nan(member: Filter) -> None:
    scores = member.suspicion(np.full((20, 3), 1e8), np.arange(20) % 2)
    assert (scores == 0).all()


@pytest.mark.parametrize("alpha", [0.0, 1.0, 4.0, 50.0])
def test_quantum_entropy_score_is_the_formula_of_the_paper(alpha: float) -> None:
    """Independent implementation: Q by the exponential of a matrix, h' Q h / tr Q written out."""
    rng = np.random.default_rng(13)
    rows = rng.standard_normal((80, 5)) * [1.8, 1.2, 1, 0.9, 0.6]
    covariance = rows.T @ rows / 80
    weight = expm(alpha * (covariance - np.eye(5)) / (np.linalg.norm(covariance, 2) - 1))
    expected = np.einsum("ij,jk,ik->i", rows, weight, rows) / np.trace(weight)
    np.testing.assert_allclose(entropy_score(rows, alpha), expected, rtol=1e-8)


def test_quantum_entropy_lies_between_the_squared_length_and_the_worst_direction() -> None:
    """Closed forms at both ends, on axes whose variances are known."""
    rows = np.random.default_rng(14).standard_normal((500, 3)) * [3.0, 1.0, 0.5]
    np.testing.assert_allclose(entropy_score(rows, 0.0), (rows**2).mean(axis=1), rtol=1e-10)
    top = np.linalg.eigh(rows.T @ rows)[1][:, -1]
    np.testing.assert_allclose(entropy_score(rows, 1e6), (rows @ top) ** 2, rtol=1e-6)
    small = rows / 10
    np.testing.assert_allclose(entropy_score(small, 4.0), (small**2).mean(axis=1), rtol=1e-10)


def test_the_majority_is_whitened_whatever_a_tenth_of_the_records_do() -> None:
    """A tenth far off: the distances of the others agree with scikit-learn's MinCovDet within a few per cent."""
    rng = np.random.default_rng(15)
    clean = rng.standard_normal((900, 4)) @ rng.standard_normal((4, 4))
    rows = np.concatenate([clean, clean[:100] + 60.0])
    ours = (robust_whitening(rows, 0.75, 1e-9) ** 2).sum(axis=1)
    theirs = MinCovDet(support_fraction=0.75, random_state=0).fit(rows).mahalanobis(rows)
    ratio = ours[:900] / theirs[:900]
    assert np.quantile(np.abs(ratio / np.median(ratio) - 1), 0.95) < 0.2
    assert ours[900:].min() > 3 * ours[:900].max()
    plain = (rows - rows.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(rows.T))).T
    assert (plain[900:] ** 2).sum(axis=1).min() < (plain[:900] ** 2).sum(axis=1).max()  # the mutant without robustness


def test_quantum_entropy_finds_what_the_leading_direction_hides() -> None:
    """Poison where the class hardly varies: the leading direction is the content, the excess is elsewhere."""
    rng = np.random.default_rng(16)
    planted = np.arange(1000) < 30
    rows = rng.standard_normal((1000, 8)) * [20, 10, 5, 2, 1, 1, 1, 1]
    rows[planted, 6] += 9
    labels = np.zeros(1000, dtype=np.int64)
    found, hidden = QuantumEntropy(directions=8).suspicion(rows, labels), Spectral().suspicion(rows, labels)
    assert found[planted].min() > np.quantile(found[~planted], 0.99)
    assert np.median(hidden[planted]) < np.quantile(hidden[~planted], 0.9)
