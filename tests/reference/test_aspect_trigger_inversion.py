"""Trigger inversion: against all one-place triggers of a linear model, and on models with and without a backdoor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from evaluate_cases import digits
from torch import nn

from assay.errors import UnfitInput
from assay.evaluate.aspects.trigger_inversion import TriggerInversion
from assay.evaluate.inversion import Inverted, invert
from assay.filters._proxy import fit_proxy
from assay.poison import Columns, plant


def plane(seed: int, features: int = 10, classes: int = 3) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """A linear model, records in the unit box and what it says of them."""
    draw = torch.Generator().manual_seed(seed)
    model = nn.Linear(features, classes)
    with torch.no_grad():
        model.weight.copy_(torch.randn(classes, features, generator=draw))
        model.weight[1, seed % features] += 4.0
        model.bias.zero_()
    x = torch.rand(300, features, generator=draw)
    return model.eval().requires_grad_(False), x, model(x).argmax(1).detach()


def best_of_all(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, int]:
    """Success of the best trigger of one feature at either end of the box, over classes and features; its class."""
    found = []
    for target in range(3):
        others = x[y != target]
        for feature in range(x.shape[1]):
            for value in (0.0, 1.0):
                stamped = others.clone()
                stamped[:, feature] = value
                found.append((float((model(stamped).argmax(1) == target).float().mean()), target))
    return max(found)


@pytest.mark.parametrize("seed", range(2))
def test_one_place_on_a_plane_is_the_best_of_all_that_there_are(seed: int) -> None:
    """Reference: every feature at either end, enumerated. The best end is exact: the logits are linear in the value."""
    model, x, y = plane(seed)
    need, target = best_of_all(model, x[::2], y[::2])
    estimate, made = TriggerInversion(steps=80, area=0.1).best(model, x, y, (0.0, 1.0))
    assert made.target == target
    assert int(made.places.sum()) == 1
    others = x[::2][y[::2] != target]
    assert made.hits(model, others) / len(others) >= need - 0.02
    fresh = x[1::2][y[1::2] != target]
    assert (estimate.counts["successes"], estimate.n) == (made.hits(model, fresh), len(fresh))


def test_a_trigger_is_laid_on_its_places_and_nowhere_else() -> None:
    places = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    places[0, 0, 1, 2] = True
    made = Inverted(0, places, torch.full((1, 2, 4, 4), 0.7))
    x = torch.rand(5, 2, 4, 4)
    changed = made(x) != x
    assert changed.sum() == 5 * 2
    assert (made(x)[:, :, 1, 2] == 0.7).all()


def test_an_answer_that_is_not_finite_is_no_proof_of_innocence() -> None:
    made = Inverted(0, torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3))
    assert made.hits(lambda x: x * torch.nan, torch.rand(4, 3)) == 4


def test_the_same_records_give_the_same_trigger_and_the_model_is_left_as_it_was() -> None:
    model, x, y = plane(1)
    before = model.weight.clone()
    one, two = (invert(model, x[y != 1], 1, (0.0, 1.0), steps=40, area=0.05) for _ in range(2))
    assert torch.equal(one.pattern, two.pattern)
    assert torch.equal(one.places, two.places)
    assert torch.equal(model.weight, before)
    assert one.pattern.min() >= 0
    assert one.pattern.max() <= 1


@pytest.mark.parametrize("settings", [{"steps": 0}, {"area": 0.0}, {"area": 1.1}, {"area": float("nan")}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UnfitInput, match="trigger_inversion"):
        TriggerInversion(**settings)


def test_one_record_is_refused() -> None:
    model, x, y = plane(1)
    with pytest.raises(UnfitInput, match="two of each"):
        TriggerInversion(steps=1).best(model, x[:1], y[:1], (0.0, 1.0))


@pytest.mark.slow
def test_a_planted_trigger_is_found_again_and_does_better_than_any_in_clean_models() -> None:
    """Two readers of digits, as tables of 64 columns, with four columns as the trigger, against two without."""
    x, y = (part[:1300] for part in digits())
    seen = digits()[0][1300:1500].flatten(1), digits()[1][1300:1500]
    trigger = Columns(columns=(0, 7, 56, 63), values=(1.0,) * 4)
    clean, backdoored = [], []
    for seed in range(2):
        options = {"target": seed, "count": 60, "generator": np.random.default_rng(seed)}
        planted = plant(x.flatten(1).numpy(), y.numpy(), trigger, **options)
        for rows, labels, said in ((x.flatten(1).numpy(), y.numpy(), clean), (planted[0], planted[1], backdoored)):
            model = fit_proxy(torch.from_numpy(rows), labels, 10, epochs=15, seed=seed).requires_grad_(False)
            said.append(TriggerInversion(steps=80, area=4 / 64).best(model, *seen, (0.0, 1.0)))
    assert [made.target for _, made in backdoored] == [0, 1]
    assert min(one.low for one, _ in backdoored) > max(one.high for one, _ in clean)
