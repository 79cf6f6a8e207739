"""Corruptions: each does what its name says, more at each severity, on images of every size; and what is counted."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from aspect_cases import SPEC, scene
from evaluate_cases import digits, trained
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.stats import norm
from torch import nn

from assay.errors import UnfitInput, UnknownName
from assay.evaluate.aspects.corruptions import Corruptions, _accuracies, _relative
from assay.evaluate.corruptions import CORRUPTIONS, SEVERITIES, corrupt, digital
from assay.intervals import bounded_mean
from assay.models.assemble import assemble
from assay.models.folder import save_model

TINTS = np.array([1.0, 0.7, 0.5])[None, :, None, None]


def images(size: int, channels: int, count: int = 24) -> npt.NDArray[np.float64]:
    x = digits()[0][:count].double().numpy()
    x = ndimage.zoom(x, (1, 1, size / 8, size / 8), order=1).clip(0, 1) if size != 8 else x
    return x if channels == 1 else np.repeat(x, channels, 1) * TINTS


def distance(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(((first - second) ** 2).mean()))


def test_there_are_fifteen() -> None:
    assert len(CORRUPTIONS) == 15


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (28, 1), (32, 3)])
def test_each_severity_is_further_from_the_image_than_the_one_before(name: str, size: int, channels: int) -> None:
    x = images(size, channels)
    away = [distance(corrupt(x, name, severity, 0), x) for severity in SEVERITIES]
    assert away[0] > 0.005
    assert all(later > 1.03 * earlier for earlier, later in pairwise(away)), away


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(list(CORRUPTIONS)),
    severity=st.sampled_from(SEVERITIES),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 19), st.integers(1, 19)),
    seed=st.integers(0, 2**63),
    level=st.sampled_from([0.0, 0.5, 1.0, None]),
)
def test_images_of_any_size_stay_images(
    name: str, severity: int, shape: tuple[int, ...], seed: int, level: float | None
) -> None:
    """Property: shape, box, finite, and equal for equal seeds; the images themselves are left alone."""
    x = np.random.default_rng(0).uniform(size=shape) if level is None else np.full(shape, level)
    before = x.copy()
    made = corrupt(x, name, severity, seed)
    assert made.shape == shape
    assert np.isfinite(made).all()
    assert made.min() >= 0
    assert made.max() <= 1
    assert np.array_equal(made, corrupt(x, name, severity, seed))
    assert np.array_equal(x, before)


def test_noise_has_the_moments_it_says() -> None:
    """Closed form: standard deviations 0.06 and sqrt(x / photons), shares of broken pixels; 10 standard errors."""
    x = np.full((4, 1, 100, 100), 0.5)
    n = x.size
    assert corrupt(x, "gaussian_noise", 2, 0).std() == pytest.approx(0.06, rel=10 / np.sqrt(2 * n))
    assert corrupt(x, "shot_noise", 3, 0).std() == pytest.approx(np.sqrt(0.5 / 100), rel=10 / np.sqrt(2 * n))
    broken = (corrupt(x, "impulse_noise", 5, 0) != 0.5).mean()
    assert broken == pytest.approx(0.12, abs=10 * np.sqrt(0.12 / n))


@pytest.mark.parametrize(
    "name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform", "pixelate"]
)
def test_what_only_moves_light_leaves_a_flat_image_flat(name: str) -> None:
    flat = np.full((2, 3, 16, 16), 0.37)
    assert np.allclose(corrupt(flat, name, 5, 0), flat)


def test_light_and_contrast_are_what_their_formulas_say() -> None:
    x = images(8, 3)
    mean = x.mean((2, 3), keepdims=True)
    assert np.allclose(corrupt(x, "contrast", 2, 0), mean + 0.55 * (x - mean))
    risen = corrupt(0.5 * x, "brightness", 1, 0)
    assert np.allclose(risen.max(1), np.clip(0.5 * x.max(1) + 0.07, 0, 1))
    lit = x.max(1) > 0.1
    ratio = risen[:, 1][lit] / risen[:, 0][lit]
    assert np.allclose(ratio, x[:, 1][lit] / x[:, 0][lit]), "hue stays"


def test_at_high_quality_blocks_come_back_nearly_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(19, 3)
    monkeypatch.setattr(digital, "LUMINANCE", np.ones((8, 8)))
    monkeypatch.setattr(digital, "COLOUR", np.ones((8, 8)))
    assert distance(corrupt(x, "jpeg_compression", 1, 0), x) < 1.5 / 255


def test_unknown_kinds_and_records_that_are_no_images_are_refused() -> None:
    with pytest.raises(UnknownName, match="fog"):
        corrupt(images(8, 1), "fogg", 1, 0)
    with pytest.raises(UnfitInput, match="severity"):
        corrupt(images(8, 1), "fog", 6, 0)
    with pytest.raises(UnknownName, match="fog"):
        Corruptions(kinds=("fogg",))


def test_a_record_counts_with_the_share_of_its_copies_and_the_worst_holds_for_all_at_once() -> None:
    rng = np.random.default_rng(0)
    held = rng.uniform(size=(200, 3, 5)) < np.array([0.9, 0.6, 0.8])[None, :, None]
    found = _accuracies(held, ("fog", "snow", "frost"), 0.95)
    assert found["corrupted_accuracy"] == bounded_mean(int(held.sum()), 200, 15)
    snow = found["corrupted_accuracy[corruption=snow]"]
    assert snow == bounded_mean(int(held[:, 1].sum()), 200, 5)
    worst = found["worst_corrupted_accuracy"]
    assert worst.low < snow.low < worst.value == snow.value < snow.high < worst.high


def test_the_error_in_units_of_a_baseline_is_the_mean_of_ratios() -> None:
    """Reference: by hand; the model's error is half of the baseline's under one corruption, twice under the other."""
    held, other = np.ones((100, 2, 5), bool), np.ones((100, 2, 5), bool)
    held[:10, 0], other[:20, 0], held[:20, 1], other[:10, 1] = False, False, False, False
    found = _relative(held, other, 0.95)["mean_corruption_error"]
    assert found.value == pytest.approx((0.5 + 2) / 2)
    assert found.low < 1.25 < found.high
    assert _relative(held, np.ones_like(held), 0.95) == {}, "a yardstick of length nought"


@pytest.mark.slow
def test_digits_in_the_noise_are_read_as_often_as_the_model_reads_them(tmp_path: Path) -> None:
    """The same copies given to the model by hand, and the model as its own baseline."""
    model = trained("mlp")
    folder = tmp_path / "baseline"
    module = assemble(SPEC)
    module.load_state_dict(model.state_dict())
    save_model(folder, module, SPEC, digits()[0][:4].numpy())
    seen = scene(model, records=100)
    found = Corruptions(kinds=("gaussian_noise", "fog"), baseline=str(folder))(seen)
    seed = next(seen.blocks("corruptions"))[2].initial_seed()
    copies = [corrupt(seen.data.x, "gaussian_noise", severity, seed).astype(np.float32) for severity in SEVERITIES]
    hits = sum(int((model(torch.from_numpy(each)).argmax(1) == seen.y).sum()) for each in copies)
    assert found.estimates["corrupted_accuracy[corruption=gaussian_noise]"] == bounded_mean(hits, 100, 5)
    assert found.estimates["mean_corruption_error"].value == pytest.approx(1.0)
    assert len(found.facts["baseline_model"]) == 64
    assert Corruptions(limit=30)(seen).estimates["corrupted_accuracy"].n == 30
    assert "Accuracy by corruption and severity" in found.section


def test_a_table_has_no_corruptions() -> None:
    seen = scene(nn.Identity(), records=4)
    with pytest.raises(UnfitInput, match="images"):
        Corruptions()(replace(seen, x=seen.x.flatten(1)))


@pytest.mark.slow
def test_the_interval_of_the_mean_covers_where_copies_agree_and_where_they_do_not() -> None:
    """Statistical: 1,000 draws of 100 records, copies of one record equal or independent; fails once in 10**6 seeds."""
    rng = np.random.default_rng(3)
    for together in (True, False):
        draws = rng.uniform(size=(1000, 100, 1 if together else 5)) < 0.8
        sums = (draws * (5 if together else 1)).sum((1, 2))
        held = [bounded_mean(int(total), 100, 5) for total in sums]
        covered = sum(each.low <= 0.8 <= each.high for each in held)
        assert covered >= 950 + norm.ppf(1e-6) * np.sqrt(1000 * 0.95 * 0.05)
