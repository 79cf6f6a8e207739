"""What every member of ``filters`` keeps, found by the catalog; a new member is tested by being there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from assay import catalog
from assay.errors import UnfitInput, UnknownName
from assay.filters import Filter, Floats, Labels
from assay.filters.features import Space, Spaces, spaces
from assay.poison import Patch, plant

NAMES = catalog.names("filters")
REPRESENTATIONS = ("penultimate", "held_out", "superimposed", "resampling", "inputs", "texture")

Scene = tuple[Spaces, Labels, Labels, Any]


@pytest.fixture(scope="module")
def digits() -> Scene:
    """Digits of three sources, one with 50 planted records; the representations, labels and who was planted."""
    rng = np.random.default_rng(3)
    bundle = load_digits()
    order = rng.permutation(len(bundle.target))
    images, labels = (bundle.images[order, None] / 16).astype(np.float32), bundle.target[order].astype(np.int64)
    source = np.arange(1200) % 3
    poisoned = plant(images[:1200], labels[:1200], Patch(size=2), target=4, count=50, generator=rng, among=source == 1)
    trusted = images[1200:1450], labels[1200:1450]
    found = spaces(
        poisoned.images, poisoned.labels, [f"s{k}" for k in source], classes=10, trusted=trusted, overlays=16
    )
    return found, poisoned.labels, trusted[1], poisoned.planted


def synthetic(seed: int = 0, n: int = 60, d: int = 6, classes: int = 3) -> tuple[Floats, Labels, Floats, Labels]:
    """Records and trusted records of Gaussian classes; non-positive, so that they may pass as log-probabilities."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, d)) * 3
    labels, trusted_labels = np.arange(n) % classes, np.arange(n // 2) % classes
    draws = (centres[y] + rng.standard_normal((len(y), d)) for y in (labels, trusted_labels))
    features, trusted = (x - x.max() for x in draws)
    return features, labels, trusted, trusted_labels


def score(member: Filter, features: Floats, labels: Labels, trusted: Floats, trusted_labels: Labels) -> Floats:
    return member.suspicion(features, labels, trusted_features=trusted, trusted_labels=trusted_labels)


@pytest.fixture(params=NAMES)
def member(request: pytest.FixtureRequest) -> Filter:
    built: Filter = catalog.build("filters", request.param, {})
    return built


def test_a_member_says_what_it_needs(member: Filter) -> None:
    assert member.space in REPRESENTATIONS
    assert isinstance(member.needs_trusted, bool)
    assert isinstance(member.floor, float)
    assert member.reason.isidentifier()


def test_reasons_are_of_one_member_each() -> None:
    reasons = [catalog.member("filters", name).reason for name in NAMES]
    assert len(set(reasons)) == len(reasons)


def test_one_finite_score_a_record(member: Filter) -> None:
    given_ = synthetic()
    scores = score(member, *given_)
    assert scores.shape == (60,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@given(seed=st.integers(0, 2**31))
@settings(deadline=None)
@pytest.mark.parametrize("name", NAMES)
def test_permuting_the_records_permutes_the_scores(name: str, seed: int) -> None:
    member: Filter = catalog.build("filters", name, {})
    features, labels, trusted, trusted_labels = synthetic(seed)
    order, other = np.random.default_rng(seed).permutation(60), np.random.default_rng(seed).permutation(30)
    straight = score(member, features, labels, trusted, trusted_labels)
    shuffled = score(member, features[order], labels[order], trusted[other], trusted_labels[other])
    np.testing.assert_allclose(shuffled, straight[order], rtol=1e-6, atol=1e-8)


def test_the_input_is_left_as_it_was(member: Filter) -> None:
    given_ = synthetic()
    before = [array.copy() for array in given_]
    score(member, *given_)
    assert all((array == copy).all() for array, copy in zip(given_, before, strict=True))


def test_planted_digits_rank_above_clean_ones_of_their_class_or_the_member_abstains(
    member: Filter, digits: Scene
) -> None:
    """AUC at least 0.95 in the target class; those that need a compact cluster or a strong trigger are tried below.

    Plain spectral scores and two-means are the published detectors: on ten kinds of digits behind one small patch they
    rank little better than chance (issue of the method, measured), which is why they do not decide alone. A small patch
    does not survive an overlay here either, so that STRIP ranks at chance (0.51, measured), and resamples nothing.
    """
    found, labels, trusted_labels, planted = digits
    space: Space = getattr(found, member.space)
    target = labels == 4
    scores = score(member, space.records, labels, space.trusted, trusted_labels)
    area = roc_auc_score(planted[target], scores[target])
    if member.reason in (
        "spectral_outlier",
        "separated_cluster",
        "same_under_overlays",
        "resampled_picture",
        "texture_shift",
    ):
        assert area > 0.2
    else:
        assert area >= 0.95


def test_a_compact_planted_cluster_ranks_above_the_clean_records_of_its_class(member: Filter) -> None:
    """AUC at least 0.95 where the poison is one tight cluster, the case all detectors are made for.

    In log-probabilities the cluster lies at another class's corner; in activations eight spreads off; entropies under
    overlays are eight spreads lower; log-odds of a moved copy eight higher.
    """
    rng = np.random.default_rng(5)
    labels = np.arange(400) % 4
    planted = (labels == 0) & (np.arange(400) % 20 == 0)
    content = np.where(planted, 1 + np.arange(400) // 4 % 3, labels)
    features = rng.standard_normal((400, 4)) + 8.0 * np.eye(4)[content if member.space == "held_out" else labels]
    features[planted & (member.space not in ("held_out", "superimposed"))] += 8.0
    features[planted & (member.space == "superimposed")] -= 8.0
    if member.space == "held_out":
        features -= np.logaddexp.reduce(features, axis=1, keepdims=True)
    trusted_labels = np.arange(200) % 4
    trusted = rng.standard_normal((200, 4)) + 8.0 * np.eye(4)[trusted_labels]
    scores = score(member, features, labels, trusted, trusted_labels)
    assert roc_auc_score(planted[labels == 0], scores[labels == 0]) >= 0.95


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(member: Filter, bad: float) -> None:
    features, labels, trusted, trusted_labels = synthetic()
    features[7, 2] = bad
    with pytest.raises(UnfitInput, match="first row 7"):
        score(member, features, labels, trusted, trusted_labels)


@pytest.mark.parametrize("shape", [(60,), (60, 6, 1), (59, 6), (0, 6), (60, 0)])
def test_a_wrong_shape_is_refused(member: Filter, shape: tuple[int, ...]) -> None:
    _, labels, trusted, trusted_labels = synthetic()
    with pytest.raises(UnfitInput):
        score(member, np.zeros(shape), labels, trusted, trusted_labels)


def test_labels_that_are_no_integers_are_refused(member: Filter) -> None:
    features, labels, trusted, trusted_labels = synthetic()
    with pytest.raises(UnfitInput, match="integers"):
        score(member, features, labels + 0.5, trusted, trusted_labels)


def test_constant_features_give_finite_scores(member: Filter) -> None:
    features, labels, trusted, trusted_labels = synthetic()
    scores = score(member, np.zeros_like(features), labels, np.zeros_like(trusted), trusted_labels)
    assert np.isfinite(scores).all()


def test_a_class_of_three_records_gives_finite_scores(member: Filter) -> None:
    features, labels, trusted, trusted_labels = synthetic()
    few = np.concatenate([np.flatnonzero(labels == 0)[:3], np.flatnonzero(labels > 0)])
    assert np.isfinite(score(member, features[few], labels[few], trusted, trusted_labels)).all()


def test_a_member_that_needs_trusted_records_says_so_when_there_are_none(member: Filter) -> None:
    features, labels, _, _ = synthetic()
    if member.needs_trusted:
        with pytest.raises(UnfitInput, match="trusted"):
            member.suspicion(features, labels)
    else:
        assert np.isfinite(member.suspicion(features, labels)).all()


def test_an_unknown_setting_names_the_nearest(member: Filter) -> None:
    name = next(name for name in NAMES if isinstance(member, catalog.member("filters", name)))
    with pytest.raises(UnknownName):
        catalog.build("filters", name, {"no_such_setting": 1})
