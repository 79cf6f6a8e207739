"""Whether a picture was moved by part of a pixel: exact copies, real scans, and no word about what else differs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from assay.filters import _resampling as module
from assay.filters._proxy import Scaled, Scaling
from assay.filters._resampling import moved, resampling
from assay.filters.features import _images
from assay.poison import Patch, Warp


def scans() -> np.ndarray:
    return (load_digits().images[:, None] / 16).astype(np.float32)


def shifts(down: float, right: float, n: int) -> torch.Tensor:
    return torch.tensor([down, right]).reshape(2, 1, 1, 1, 1).expand(2, n, 1, 1, 1)


def test_moving_is_exact_by_nothing_by_a_pixel_and_by_half_of_one() -> None:
    x = torch.rand(3, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(moved(x, shifts(0, 0, 3)), x)
    assert torch.equal(moved(x, shifts(1, 0, 3))[:, :, 1:], x[:, :, :-1])
    assert torch.equal(moved(x, shifts(0, 1, 3))[..., 1:], x[..., :-1])
    half = moved(x, shifts(0.5, 0.5, 3))[..., 1:, 1:]
    corners = x[..., 1:, 1:] + x[..., :-1, 1:] + x[..., 1:, :-1] + x[..., :-1, :-1]
    torch.testing.assert_close(half, corners / 4)


def test_warped_scans_rank_above_the_others_and_patched_ones_do_not() -> None:
    """Fifty of 1,797 digits, none of them pointed out."""
    x, planted = scans(), np.arange(1797) % 36 == 0
    for trigger, low, high in ((Warp(strength=0.7, seed=5), 0.8, 1.0), (Patch(size=2), 0.3, 0.7)):
        stamped = x.copy()
        stamped[planted] = trigger(x[planted])
        area = roc_auc_score(planted, resampling(torch.from_numpy(stamped), 0)[:, 0])
        assert low <= area <= high


def test_records_and_trusted_ones_are_judged_by_one_discriminant() -> None:
    x, trusted = scans()[:200], scans()[200:300]
    scaling = Scaling.of(x)
    pool, records = Scaled(scaling, (x, trusted)), Scaled(scaling, (x,))
    found = _images(x, records, scaling(trusted), pool, 3).resampling
    assert found is not None
    np.testing.assert_array_equal(np.concatenate([found.records, found.trusted]), resampling(pool[:], 3))


def test_the_same_seed_gives_the_same_scores_however_many_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.from_numpy(scans()[:400])
    whole = resampling(x, 1)
    np.testing.assert_array_equal(resampling(x, 1), whole)
    monkeypatch.setattr(module, "MOST_COPIES", 200)
    assert np.corrcoef(resampling(x, 1)[:, 0], whole[:, 0])[0, 1] > 0.9


def test_pictures_without_an_inside_or_without_contrast_have_nothing_to_say() -> None:
    assert resampling(torch.rand(20, 1, 2, 9), 0).shape == (20, 0)
    assert np.isfinite(resampling(torch.zeros(20, 1, 5, 5), 0)).all()
