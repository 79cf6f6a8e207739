"""Adversarial patches: laid as by hand, and against the best patch of a linear model, which has a closed form."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from aspect_cases import scene
from evaluate_cases import trained
from torch import nn

from assay.errors import UnfitInput, UnknownName
from assay.evaluate.aspects import patch as member
from assay.evaluate.aspects.patch import Patch
from assay.evaluate.stickers import BLURS, Placement, laid, placements

pytestmark = pytest.mark.usefixtures("one_thread")


def upright(row: float, column: float, **changes: float) -> Placement:
    plain = {"turn": 0.0, "scale": 1.0, "gain": 1.0, "offset": 0.0} | changes
    return Placement(
        torch.tensor([row]),
        torch.tensor([column]),
        *(torch.tensor([plain[name]]) for name in ("turn", "scale", "gain", "offset")),
        torch.tensor([0]),
    )


@pytest.mark.parametrize("side", [1, 2, 3, 8])
def test_an_upright_patch_replaces_a_square_of_pixels(side: int) -> None:
    rng = torch.Generator().manual_seed(0)
    x, patch = torch.rand(40, 2, 8, 9, generator=rng), torch.rand(2, side, side, generator=rng)
    at = placements(40, (8, 9), side, False, rng)
    found = laid(x, patch, at, (0.0, 1.0))
    corners = set()
    for which in range(40):
        row, column = int(at.row[which] - (side - 1) / 2), int(at.column[which] - (side - 1) / 2)
        expected = x[which].clone()
        expected[:, row : row + side, column : column + side] = patch
        torch.testing.assert_close(found[which], expected, atol=1e-6, rtol=0)
        corners.add((row, column))
    if side > 1:
        assert {row for row, _ in corners} == set(range(8 - side + 1))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_patch_is_turned_as_torch_turns_it(quarters: int) -> None:
    patch, x = torch.rand(1, 3, 3), torch.zeros(1, 1, 7, 7)
    found = laid(x, patch, upright(3, 3, turn=quarters * torch.pi / 2), (0.0, 1.0))
    torch.testing.assert_close(found[0, :, 2:5, 2:5], torch.rot90(patch, quarters, (1, 2)), atol=1e-5, rtol=0)


def test_a_patch_of_twice_the_size_covers_four_times_the_pixels_and_light_is_a_line_cut_by_the_box() -> None:
    patch, x = torch.full((1, 2, 2), 0.5), torch.zeros(1, 1, 9, 9)
    large = laid(x, patch, upright(3.5, 3.5, scale=2.0), (0.0, 1.0))
    assert (large == 0.5).sum() == 16
    lit = laid(x - 1, 2 * patch - 1, upright(3.5, 3.5, gain=1.2, offset=0.05), (-1.0, 1.0))  # 0 is half of the box
    assert lit.max().item() == pytest.approx(-1 + 2 * (1.2 * 0.5 + 0.05))
    bright = torch.ones(1, 2, 2, requires_grad=True)
    shone = laid(x, bright, upright(3.5, 3.5, gain=1.2), (0.0, 1.0))
    assert shone.max() == 1
    (gradient,) = torch.autograd.grad(shone.sum(), bright)
    assert (gradient > 0).all(), "the edge of the box does not stop the gradient"


def test_every_physical_draw_stays_in_the_box_and_blurs_keep_the_mean_of_a_flat_patch() -> None:
    rng = torch.Generator().manual_seed(1)
    x, patch = 4 * torch.rand(200, 1, 8, 8, generator=rng) - 1, 4 * torch.rand(1, 3, 3, generator=rng) - 1
    at = placements(200, (8, 8), 3, True, rng)
    found = laid(x, patch, at, (-1.0, 3.0))
    assert found.min() >= -1
    assert found.max() <= 3
    assert (found != x).flatten(1).any(1).all()
    assert set(at.blur.tolist()) == set(range(len(BLURS)))
    for blur in range(len(BLURS)):
        flat = replace(upright(3.5, 3.5), blur=torch.tensor([blur]))
        torch.testing.assert_close(laid(0 * x[:1], 0 * patch + 0.7, flat, (0.0, 1.0)).max(), torch.tensor(0.7))


def plane(weight: torch.Tensor) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval().requires_grad_(False)
    model[1].weight.copy_(torch.stack([-weight, weight]) / 2)
    model[1].bias.zero_()
    return model


def shortfall(aspect: Patch) -> float:
    """Of the gain over noise, what the patch lacks; the margin is linear, so the best has its sign pixel by pixel."""
    weight = torch.randn(64, generator=torch.Generator().manual_seed(2))
    seen = replace(scene(plane(weight), records=120), y=torch.zeros(120, dtype=torch.int64))
    begun, made = aspect._noise(seen), aspect._made(seen, None)
    side = made.shape[1]
    picture, corners = weight.view(8, 8), list(itertools.product(range(8 - side + 1), repeat=2))
    mean = torch.stack([picture[r : r + side, c : c + side] for r, c in corners]).mean(0)
    best = (mean > 0).float()
    gains = [float((mean * (each - begun[0])).sum()) for each in (made[0], best)]
    return 1 - gains[0] / gains[1]


def test_the_patch_of_a_linear_model_is_the_closed_form() -> None:
    assert shortfall(Patch(area=9 / 64, steps=150, restarts=1)) < 0.02


MUTANTS = {
    "descends": ("log_odds", lambda logits, y: -member_log_odds(logits, y)),
    "looks at noise": ("log_odds", lambda logits, y: member_log_odds(torch.randn_like(logits) * logits, y)),
    "lays nothing": ("laid", lambda x, patch, at, bounds: x + 0 * patch.sum()),
}
member_log_odds = member.log_odds


@pytest.mark.parametrize("name", list(MUTANTS))
def test_a_broken_search_gains_less(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member, *MUTANTS[name])
    assert shortfall(Patch(area=9 / 64, steps=150, restarts=1)) > 0.2


class Backdoored(nn.Module):
    """Reads digits, but calls class 3 whatever carries two white pixels and two black ones as on a chess board."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        board = torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]]) / 2
        seen = (nn.functional.conv2d(x, board).flatten(1) - 0.4).clamp_min(0).sum(1)
        return trained("mlp")(x) + 60 * seen[:, None] * nn.functional.one_hot(torch.tensor(3), 10)


@pytest.mark.slow
def test_a_patch_finds_the_sticker_that_a_model_waits_for_and_is_measured_on_other_records() -> None:
    seen = scene(Backdoored().eval(), records=121)
    assert (Backdoored()(seen.x).argmax(1) == seen.y).double().mean() > 0.8
    found = Patch(area=4 / 64, targets=("3",), steps=80, restarts=8, samples=3)(seen).estimates
    success = found["patch_success[area=0.0625,target=3]"]
    assert success.value > 0.95
    assert success.n == int((seen.y[1::2] != 3).sum())
    assert found["patched_accuracy[area=0.0625]"].n == 60


@pytest.mark.slow
def test_a_patch_costs_more_than_noise_and_a_larger_one_more_than_a_small_one() -> None:
    seen = scene(trained("mlp"), records=240)
    small, large = (Patch(area=area, restarts=2)(seen).estimates for area in (0.06, 0.2))
    for area, found in (("0.06", small), ("0.2", large)):
        assert found[f"patched_accuracy[area={area}]"].value < found[f"occluded_accuracy[area={area}]"].value - 0.05
    assert large["patched_accuracy[area=0.2]"].value < small["patched_accuracy[area=0.06]"].value - 0.1
    again = Patch(area=0.06, restarts=2)(seen).estimates
    assert again == small, "the same seed"
    physical = Patch(area=0.06, physical=True, steps=10, restarts=1)(seen).estimates
    assert set(physical) == {"patched_accuracy[area=0.06,physical]", "occluded_accuracy[area=0.06,physical]"}


def test_what_is_no_patch_is_refused() -> None:
    for changes in ({"area": 0.0}, {"area": 1.1}, {"steps": 0}, {"restarts": 0}, {"samples": 0}, {"rate": 0.0}):
        with pytest.raises(UnfitInput, match="patch"):
            Patch(**changes)
    seen = scene(nn.Identity(), records=4)
    with pytest.raises(UnfitInput, match="images"):
        Patch()(replace(seen, x=seen.x.flatten(1)))
    with pytest.raises(UnfitInput, match="at least 2"):
        Patch()(replace(seen, x=seen.x[:1], y=seen.y[:1]))
    with pytest.raises(UnknownName, match="eleven"):
        Patch(targets=("eleven",))(seen)
