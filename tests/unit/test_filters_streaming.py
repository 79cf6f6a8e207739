"""Out of core: the same scores as in memory, the same bits for any shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from assay.errors import UnfitInput
from assay.filters import streaming
from assay.filters.spectral import Spectral
from assay.filters.streaming import Moments, block_count, moments
from assay.filters.trusted_mahalanobis import TrustedMahalanobis

Scene = tuple[Path, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def scene(folder: Path, records: int = 700, width: int = 12, dtype: str = "<f4") -> Scene:
    """Three classes far from the origin, the last one rare and late; a file of them, and trusted records."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((width, width))
    labels = np.arange(records) % 2
    labels[-9:] = 2
    x = (50.0 + 3 * labels[:, None] + rng.standard_normal((records, width)) @ mixing).astype(dtype)
    known = np.arange(90) % 3
    trusted = 50.0 + 3 * known[:, None] + rng.standard_normal((90, width)) @ mixing
    np.save(folder / "x.npy", x)
    return folder / "x.npy", x, labels, trusted, known


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "BLOCK", 64)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4"])
def test_the_scores_are_those_of_the_members_in_memory(tmp_path: Path, dtype: str) -> None:
    file, x, labels, trusted, known = scene(tmp_path, dtype=dtype)
    found = moments(file, labels)
    for directions in (1, 3):
        inside = Spectral(directions=directions).suspicion(x.astype(float), labels)
        np.testing.assert_allclose(streaming.spectral(file, labels, found, directions), inside, rtol=1e-6, atol=1e-9)
    member = TrustedMahalanobis(directions=5)
    inside = member.suspicion(x.astype(float), labels, trusted_features=trusted, trusted_labels=known)
    out = streaming.trusted_mahalanobis(file, labels, found, trusted, known, member)
    np.testing.assert_allclose(out, inside, rtol=1e-6)


def test_the_sums_are_count_mean_and_scatter_of_each_class(tmp_path: Path) -> None:
    file, x, labels, *_ = scene(tmp_path, dtype="<f8")
    for label, one in moments(file, labels).total().items():
        own = x[labels == label]
        assert one.count == len(own)
        np.testing.assert_allclose(one.mean, own.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(one.scatter, np.cov(own.T, ddof=0) * len(own), rtol=1e-9)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shards=st.lists(st.integers(0, 3), min_size=11, max_size=11), order=st.permutations(range(4)))
def test_any_shards_in_any_order_give_the_same_bits(tmp_path: Path, shards: list[int], order: list[int]) -> None:
    """Property: 11 blocks dealt to four machines, their states joined in any order, are as one machine has them."""
    file, _, labels, *_ = scene(tmp_path)
    parts = [moments(file, labels, [block for block in range(11) if shards[block] == shard]) for shard in order]
    one, many = moments(file, labels).total(), Moments.joined(parts).total()
    halves = Moments.joined([Moments.joined(parts[:2]), Moments.joined(parts[2:])]).total()
    for label, sums in one.items():
        for other in (many[label], halves[label]):
            assert sums.count == other.count
            assert sums.mean.tobytes() == other.mean.tobytes()
            assert sums.scatter.tobytes() == other.scatter.tobytes()


def test_sums_in_the_order_of_arrival_would_not_give_the_same_bits(tmp_path: Path) -> None:
    """Mutant: without the tree, two orders of the same blocks differ in their last digits."""
    file, _, labels, *_ = scene(tmp_path)
    each = [moments(file, labels, [block]).total()[0] for block in range(10)]
    forward, backward = each[0], each[-1]
    for one in each[1:]:
        forward = forward + one
    for one in each[-2::-1]:
        backward = backward + one
    assert forward.scatter.tobytes() != backward.scatter.tobytes()


def test_a_block_twice_or_missing_is_refused(tmp_path: Path) -> None:
    file, _, labels, *_ = scene(tmp_path)
    part = moments(file, labels, range(4))
    with pytest.raises(UnfitInput, match="twice"):
        Moments.joined([part, moments(file, labels, [2])])
    with pytest.raises(UnfitInput, match="twice"):
        Moments.joined([moments(file, labels, [2]), part])
    with pytest.raises(UnfitInput, match="4 blocks, need all 11"):
        streaming.spectral(file, labels, part)
    with pytest.raises(UnfitInput, match="block"):
        moments(file, labels, [11])


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    file, x, labels, trusted, known = scene(tmp_path)
    broken = x.copy()
    broken[300, 2] = np.nan
    for array, match in ((broken, "block 4"), (x[:-1], "one row a label"), (x[:, 0], "one row"), (labels, "float")):
        np.save(tmp_path / "broken.npy", array)
        with pytest.raises(UnfitInput, match=match):
            moments(tmp_path / "broken.npy", labels)
    np.save(tmp_path / "broken.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "empty.npy").touch()
    for name in ("broken.npy", "empty.npy", "none.npy"):
        with pytest.raises(UnfitInput, match="npy file"):
            moments(tmp_path / name, labels)
    found = moments(file, labels)
    with pytest.raises(UnfitInput, match="class 2"):
        streaming.trusted_mahalanobis(file, labels, found, trusted[known < 2], known[known < 2])


@pytest.mark.slow
def test_ranks_agree_with_those_in_memory_on_wide_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "BLOCK", 4096)
    file, x, labels, trusted, known = scene(tmp_path, records=20_000, width=96)
    found = moments(file, labels)
    assert block_count(len(labels)) == 5
    out = streaming.trusted_mahalanobis(file, labels, found, trusted, known)
    inside = TrustedMahalanobis().suspicion(x.astype(float), labels, trusted_features=trusted, trusted_labels=known)
    assert spearmanr(out, inside).statistic > 0.999
    assert spearmanr(streaming.spectral(file, labels, found), Spectral().suspicion(x, labels)).statistic > 0.999
