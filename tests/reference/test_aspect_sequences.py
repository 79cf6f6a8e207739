"""Perturbation sequences: counted by hand, moved as their names say, and flat for a model that cannot change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from aspect_cases import scene
from evaluate_cases import digits, trained
from scipy import ndimage

from assay.errors import UnfitInput, UnknownName
from assay.evaluate.aspects.sequences import KINDS, Sequences, flips


def test_flips_are_counted_by_hand() -> None:
    answers = np.array([[3, 3, 1, 1, 3], [0, 1, 0, 1, 0], [2, 2, 2, 2, 2], [-1, -2, -3, -4, -5]])
    assert flips(answers, noisy=False).tolist() == [2, 4, 0, 4]
    assert flips(answers, noisy=True).tolist() == [2, 2, 0, 4]


@pytest.mark.parametrize("name", KINDS)
def test_the_first_frame_is_the_picture_and_the_last_is_not(name: str) -> None:
    x = digits()[0][:8].double().numpy()
    first, last = (KINDS[name](x, share, np.random.default_rng(0)) for share in (0.0, 1.0))
    assert np.allclose(first, x)
    assert np.abs(last - x).max() > 0.05


def test_pictures_are_turned_and_moved_as_scipy_turns_and_moves_them() -> None:
    x = digits()[0][:4].double().numpy()
    turned = KINDS["rotate"](x, 1.0, np.random.default_rng(0))
    expected = ndimage.rotate(x, -15, axes=(2, 3), reshape=False, order=1, mode="nearest")
    other = ndimage.rotate(x, 15, axes=(2, 3), reshape=False, order=1, mode="nearest")
    assert min(np.abs(turned - each).max() for each in (expected, other)) < 1e-9
    moved = KINDS["translate"](x, 1.0, np.random.default_rng(0))
    assert np.allclose(moved, ndimage.shift(x, (0, 0, 0, 0.8), order=1, mode="nearest"))


def test_a_model_that_says_one_thing_never_flickers_and_one_without_an_answer_always() -> None:
    seen = scene(trained("mlp"), records=40)

    class Says(torch.nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 10), self.value).index_fill(1, torch.tensor([3]), self.value + 1)

    for value, rate in ((0.0, 0.0), (torch.nan, 1.0)):
        found = Sequences(frames=3)(replace(seen, model=Says(value))).estimates
        assert {each.value for each in found.values()} == {rate}


def test_every_kind_is_measured_and_more_frames_flicker_less_a_step() -> None:
    seen = scene(trained("mlp"), records=60)
    few, many = (Sequences(frames=frames, kinds=("translate",))(seen).estimates for frames in (2, 21))
    assert many["flip_rate"].value < few["flip_rate"].value
    assert set(Sequences(limit=20)(seen).estimates) == {"flip_rate", *(f"flip_rate[perturbation={k}]" for k in KINDS)}


def test_what_is_no_sequence_is_refused() -> None:
    with pytest.raises(UnknownName, match="rotate"):
        Sequences(kinds=("rotat",))
    with pytest.raises(UnfitInput, match="frames"):
        Sequences(frames=1)
    seen = scene(torch.nn.Identity(), records=4)
    with pytest.raises(UnfitInput, match="images"):
        Sequences()(replace(seen, x=seen.x.flatten(1)))
