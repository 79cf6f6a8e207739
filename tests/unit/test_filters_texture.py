"""Texture: exact on small images, blind to brightness and ramps, and a view in which warps stand apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from assay.filters._sharpen import Discriminants
from assay.filters._texture import LEAST_CONTRAST, texture
from assay.poison import Warp, plant


def test_the_numbers_are_those_of_a_convolution_with_1_minus_2_1() -> None:
    """Independent implementation: scipy's second differences of an image of 28 by 28, averaged two by two."""
    x = np.random.default_rng(0).random((5, 3, 28, 28)).astype(np.float32)
    expected = []
    for axis in (3, 2):
        contrast = np.abs(convolve1d(x, [1, -2, 1], axis=axis))[:, :, 1:-1, 1:-1].mean(axis=1)
        expected.append(contrast.reshape(5, 13, 2, 13, 2).mean(axis=(2, 4)).reshape(5, -1))
    found = texture(torch.from_numpy(x))
    np.testing.assert_allclose(found, np.log(LEAST_CONTRAST + np.concatenate(expected, axis=1)), rtol=1e-4)


def test_brightness_and_ramps_are_no_texture() -> None:
    x = torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    ramp = torch.arange(12) * 0.1 + torch.arange(12)[:, None] * 0.2 + 3.0
    np.testing.assert_allclose(texture(x), texture(x + ramp), atol=1e-5)
    np.testing.assert_allclose(texture(torch.ones(1, 1, 12, 12)), np.log(LEAST_CONTRAST), rtol=1e-6)


@pytest.mark.parametrize(("side", "columns"), [(2, 0), (3, 2), (8, 18), (28, 338), (32, 338), (224, 338)])
def test_images_of_any_side_have_at_most_338_columns(side: int, columns: int) -> None:
    assert texture(torch.rand(2, 3, side, side)).shape == (2, columns)


def test_no_image_has_no_texture_and_many_are_measured_like_few() -> None:
    assert texture(torch.empty(0, 1, 28, 28)).shape == (0, 338)
    x = torch.rand(1500, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(texture(x)[1100:1110], texture(x[1100:1110]))


def test_warped_digits_stand_apart_in_texture_by_more_than_in_the_pixels() -> None:
    """Cross-fitted discriminants, told which are planted, within one class; no network is asked."""
    bundle = load_digits()
    images, labels = (bundle.images[:, None] / 16).astype(np.float32), bundle.target.astype(np.int64)
    auc: dict[str, list[float]] = {"pixels": [], "texture": []}
    for seed in range(4):
        given = plant(
            images, labels, Warp(strength=0.7, seed=seed), target=seed, count=60, generator=np.random.default_rng(seed)
        )
        own, planted = given.labels == seed, given.planted[given.labels == seed]
        scaled = torch.from_numpy((given.images[own] / images.std()).astype(np.float32))
        for name, view in (("pixels", scaled.flatten(1).numpy()), ("texture", texture(scaled))):
            auc[name].append(float(roc_auc_score(planted, Discriminants(view).scores(planted))))
    assert min(auc["texture"]) > 0.9
