"""Models that answer differently each time: gradients averaged over answers find the worst case of the mean model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attack_cases import frozen_network
from evaluate_cases import MASKS, Around, digits, trained
from torch import nn

from assay.attacks.apgd import APGD
from assay.attacks.objective import fooled
from assay.attacks.pgd import PGD
from assay.errors import UnfitInput
from assay.evaluate import soundness
from assay.evaluate.ladder import ladder
from assay.evaluate.measure import Plan, measure
from assay.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("one_thread")


class Shaken(nn.Module):
    """A plane whose weights are drawn anew at every answer, for each record, around a mean that is known."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(1)
        self.noise, self.weight = noise, torch.randn(64, generator=rng, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight + self.noise * torch.randn(x.shape, dtype=x.dtype)
        score = (x * weight).sum(1, keepdim=True)
        return torch.cat([-score, score], 1) / 2


def shortfall(attack: Any, noise: float) -> float:
    """Of the greatest change of the mean margin, ``epsilon ||w||_1`` (Hoelder), what the attack leaves, on average."""
    torch.manual_seed(0)
    model, rng = Shaken(noise).eval(), torch.Generator().manual_seed(0)
    x = 0.3 + 0.4 * torch.rand(60, 64, generator=rng, dtype=torch.float64)
    y = torch.zeros(60, dtype=torch.int64)
    threat = ThreatModel(epsilon=0.05)
    x_adv = attack(model, x, y, threat, generator=rng)
    gained = (x_adv - x) @ model.weight
    return float(1 - gained.mean() / (0.05 * model.weight.abs().sum()))


@pytest.mark.parametrize("kind", [PGD, APGD])
def test_the_mean_of_many_gradients_is_the_gradient_of_the_mean(kind: Any) -> None:
    settings = {"steps": 20, "restarts": 1, "loss": "margin"}
    one, many = (shortfall(kind(**settings, samples=samples), 3.0) for samples in (1, 40))
    assert many < 0.2
    assert one > 2 * many
    assert shortfall(kind(**settings, samples=3), 0.0) < 1e-9


def test_a_model_that_answers_the_same_is_attacked_the_same_whatever_the_samples() -> None:
    model, x, y = frozen_network()
    threat = ThreatModel(epsilon=0.05)
    for kind in (PGD, APGD):
        one, three = (
            kind(steps=5, restarts=1, samples=samples)(model, x, y, threat, generator=torch.Generator().manual_seed(0))
            for samples in (1, 3)
        )
        torch.testing.assert_close(one, three, atol=1e-6, rtol=0)


class Coin(nn.Module):
    """Right and wrong by turns, whatever it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        sign = 1.0 if self.asked % 2 else -1.0
        return torch.cat([0 * x[:, :1] + sign, 0 * x[:, :1] - sign], 1)


def test_no_point_counts_as_misclassified_by_luck() -> None:
    x, y = torch.rand(8, 3), torch.zeros(8, dtype=torch.int64)
    lucky, patient = (
        PGD(steps=3, restarts=1, samples=samples, drop=True)(
            Coin().eval(), x, y, ThreatModel(epsilon=0.1), generator=torch.Generator().manual_seed(0)
        )
        for samples in (1, 2)
    )
    assert not torch.equal(lucky, x)
    assert torch.equal(patient, x), "every loss is the same, and of two answers one is right"


@pytest.mark.slow
def test_a_random_model_is_broken_by_more_samples_and_stays_unsound() -> None:
    """What is reported is the worst over all that was asked, but trust is taken away all the same."""
    model = Around(trained("mlp"), MASKS["noise"]).eval()
    x, y = (part[:120] for part in digits())
    threat, stands = ThreatModel(epsilon=0.1), []
    for samples in (1, 16):
        torch.manual_seed(0)
        attack = PGD(steps=20, restarts=1, loss="margin", samples=samples)
        x_adv = attack(model, x, y, threat, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            stands.append(float(torch.stack([~fooled(model(x_adv), y) for _ in range(30)]).double().mean()))
    assert stands[1] < stands[0] - 0.02
    plan = Plan(threats=(threat,), rungs=ladder({"pgd": {"steps": 5, "restarts": 1, "samples": 4}}))
    found = measure(model, x[:64], y[:64], plan)
    assert soundness.verdicts(found, y[:64], plan, 64)["two_passes_agree"] == "misses"


def test_samples_cost_what_they_ask_and_none_is_refused() -> None:
    one, four = (ladder({"apgd": {"steps": 10, "samples": samples}})[0].cost for samples in (1, 4))
    assert four == 4 * one
    for kind in (PGD, APGD):
        with pytest.raises(UnfitInput, match="samples 0"):
            kind(samples=0)
