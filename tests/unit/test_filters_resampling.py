"""Whether a picture was resampled: exact copies, real scans, and no word about what else differs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from assay.filters import _resampling as module
from assay.filters._proxy import Scaled, Scaling
from assay.filters._resampling import fields, moved, resampling
from assay.filters._sharpen import Discriminants
from assay.filters.features import _images
from assay.poison import Patch, Warp


def scans() -> np.ndarray:
    return (load_digits().images[:, None] / 16).astype(np.float32)


def test_moving_is_that_of_scipy() -> None:
    """Independent implementation: linear interpolation, the edge carried on beyond the image."""
    generator = torch.Generator().manual_seed(0)
    x, field = torch.rand(5, 2, 9, 11, generator=generator), fields(5, 9, 11, generator)
    assert field.abs().max() > 0.5
    found = moved(x, field).numpy()
    for image, places, ours in zip(x.numpy(), np.indices((9, 11)) + field.numpy(), found, strict=True):
        for plane, own in zip(image, ours, strict=True):
            np.testing.assert_allclose(own, map_coordinates(plane, places, order=1, mode="nearest"), atol=1e-5)


def test_moving_by_nothing_and_by_a_pixel_is_exact() -> None:
    x = torch.rand(3, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    down = torch.tensor([1.0, 0.0])[None, :, None, None].expand(3, 2, 6, 7)
    torch.testing.assert_close(moved(x, torch.zeros(3, 2, 6, 7)), x)
    torch.testing.assert_close(moved(x, down)[:, :, :-1], x[:, :, 1:])


def test_fields_are_smooth_and_each_of_its_own() -> None:
    found = fields(200, 28, 28, torch.Generator().manual_seed(1))
    assert (found[..., 1:] - found[..., :-1]).abs().max() < 1.5
    assert found.std(dim=0).min() > 0.2
    assert found.abs().max() < 4


def test_warped_scans_rank_above_the_others_and_patched_ones_do_not() -> None:
    """Thirty of 900 digits, none of them pointed out."""
    x, planted = scans()[:900], np.arange(900) % 30 == 0
    for trigger, low, high in ((Warp(strength=0.7, seed=5), 0.8, 1.0), (Patch(size=2), 0.3, 0.7)):
        stamped = x.copy()
        stamped[planted] = trigger(x[planted])
        area = roc_auc_score(planted, resampling(torch.from_numpy(stamped), 0)[0][:, 0])
        assert low <= area <= high


def test_from_a_few_suspects_the_marks_tell_one_warp_from_all_others() -> None:
    """Half of 50 planted digits of 900 are known; the others are sought in marks, and by the log-odds of any warp."""
    planted, known = np.arange(900) % 18 == 0, np.arange(900) % 36 == 0
    for seed in (5, 7):
        x = scans()[:900]
        x[planted] = Warp(strength=0.5, seed=seed)(x[planted])
        odds, marks = resampling(torch.from_numpy(x), 0)
        found = [said[~known] for said in (Discriminants(marks).scores(known), odds[:, 0])]
        of_marks, of_odds = (roc_auc_score(planted[~known], said) for said in found)
        assert of_marks > max(0.99, of_odds)


def test_which_way_a_picture_faces_has_no_part_in_its_marks() -> None:
    x = torch.from_numpy(scans()[:50])
    weights = torch.rand(3, 64, generator=torch.Generator().manual_seed(0))
    once = module._facing_all_ways(lambda images: images.flatten(1) @ weights.T, x)
    for facing in ((2,), (3,), (2, 3)):
        torch.testing.assert_close(
            module._facing_all_ways(lambda images: images.flatten(1) @ weights.T, x.flip(facing)), once
        )


def test_records_and_trusted_ones_are_judged_by_one_discriminant() -> None:
    x, trusted = scans()[:200], scans()[200:300]
    scaling = Scaling.of(x)
    pool, records = Scaled(scaling, (x, trusted)), Scaled(scaling, (x,))
    found = _images(x, records, scaling(trusted), pool, 3)
    for space, expected in zip((found.resampling, found.marks), resampling(pool[:], 3), strict=True):
        assert space is not None
        np.testing.assert_array_equal(np.concatenate([space.records, space.trusted]), expected)


def test_the_same_seed_gives_the_same_scores_and_no_draw_of_anyone_else_has_a_part_in_them() -> None:
    x = torch.from_numpy(scans()[:200])
    before = torch.random.get_rng_state()
    whole = resampling(x, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    for own, again, other in zip(whole, resampling(x, 1), resampling(x, 2), strict=True):
        np.testing.assert_array_equal(again, own)
        assert not np.array_equal(other, own)


def test_large_pictures_teach_by_their_parts_and_are_judged_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x, planted = np.repeat(np.repeat(scans()[:300], 5, axis=2), 6, axis=3), np.arange(300) % 10 == 0
    x[planted] = Warp(strength=0.7, seed=5)(x[planted])
    monkeypatch.setattr(module, "MOST_STEPS", 100)
    seen = []
    learn = module.moved
    monkeypatch.setattr(module, "moved", lambda images, field: seen.append(images.shape[2:]) or learn(images, field))
    area = roc_auc_score(planted, resampling(torch.from_numpy(x), 0)[0][:, 0])
    assert set(seen) == {(32, 32)}
    assert area > 0.95


def test_pictures_without_an_inside_or_without_contrast_have_nothing_to_say() -> None:
    assert [said.shape for said in resampling(torch.rand(20, 1, 2, 9), 0)] == [(20, 0), (20, 0)]
    assert all(np.isfinite(said).all() for said in resampling(torch.zeros(20, 1, 5, 5), 0))
