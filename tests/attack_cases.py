"""Checks of an attack, each a number that only a right one reaches, what they attack, and plain PGD to break."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from assay.attacks.geometry import project, random_start, size, steepest
from assay.attacks.objective import margin
from assay.threat import ThreatModel

LOST = {"linf": 1e-9, "l2": 0.03}
FROZEN = Path(__file__).parent / "reference" / "digits_mlp.safetensors"
FROZEN_EPSILON, FROZEN_ROBUST, FROZEN_ROWS = 0.1, 58, range(1400, 1500)


def linear_shortfall(attack, norm: str) -> float:
    """Share of the budget lost at worst; min of w.x + b over the ball is w.x + b - epsilon ||w||_dual (Hoelder)."""
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Linear(64, 2).double().eval()
    x = 0.3 + 0.4 * torch.rand(200, 64, generator=rng, dtype=torch.float64)  # box inactive
    threat = ThreatModel(norm=norm, epsilon=0.05)
    y = model(x).argmax(1)
    with torch.no_grad():
        x_adv = attack(model, x, y, threat, generator=rng)
        budget = 0.05 * (model.weight[0] - model.weight[1]).norm(p=1 if norm == "linf" else 2).item()
        return float((margin(model(x), y) + budget - margin(model(x_adv), y)).max() / budget)


def linear_shortfall_in_a_box(attack) -> float:
    """The same where the box cuts the ball: every feature goes to the end of its own interval."""
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Linear(64, 2).double().eval()
    x = torch.rand(200, 64, generator=rng, dtype=torch.float64).round(decimals=1)  # many features at 0 and 1
    threat, y = ThreatModel(epsilon=0.2), model(x).argmax(1)
    w = torch.where(y[:, None] == 0, model.weight[1] - model.weight[0], model.weight[0] - model.weight[1])
    worst = torch.where(w > 0, (x + 0.2).clamp(max=1), (x - 0.2).clamp(min=0))
    with torch.no_grad():
        reached = margin(model(attack(model, x, y, threat, generator=rng)), y) - margin(model(x), y)
        return float((1 - reached / (margin(model(worst), y) - margin(model(x), y))).max())


def leaves_the_ball(attack, norm: str) -> float:
    """By how much the perturbation exceeds epsilon."""
    rng = torch.Generator().manual_seed(0)
    model = two_feature_network()
    x = torch.rand(100, 2, generator=rng, dtype=torch.float64)
    threat = ThreatModel(norm=norm, epsilon=0.1)
    x_adv = attack(model, x, model(x).argmax(1), threat, generator=rng)
    return float((size(threat, x_adv - x) - 0.1).max())


def frozen_robust(attack) -> int:
    """Records of 100 digits on which the frozen network survives at linf 0.1; exactly 58 can."""
    model, x, y = frozen_network()
    with torch.no_grad():
        x_adv = attack(model, x, y, ThreatModel(epsilon=FROZEN_EPSILON), generator=torch.Generator().manual_seed(0))
        return int((model(x_adv).argmax(1) == y).sum())


def two_feature_network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= 3
    return model.double().eval()


class Winding(nn.Module):
    """Three classes of two features whose borders wind through the box, so that many balls are cut by one."""

    def forward(self, x):
        u, v = 9 * x[:, 0], 9 * x[:, 1]
        return torch.stack(
            [torch.sin(u) + torch.cos(v), torch.sin(0.7 * v + 1) - torch.cos(u), 0.2 * torch.sin(u * v)], 1
        )


class Hill(nn.Module):
    """Two classes; the margin of the wrong one has its only top, 1, inside the ball around 0.5."""

    def forward(self, x):
        away = (x - 0.5 - 0.013).square().sum(1, keepdim=True)
        return torch.cat([torch.zeros_like(away), 1 - 50 * away], 1)


def shortfall_of_a_top_inside(attack) -> float:
    """How far below the top the attack ends; only steps that shrink come near it."""
    x, y = torch.full((20, 6), 0.5, dtype=torch.float64), torch.zeros(20, dtype=torch.int64)
    x_adv = attack(Hill().eval(), x, y, ThreatModel(epsilon=0.1), generator=torch.Generator().manual_seed(0))
    return float(1 - margin(Hill()(x_adv), y).min())


def frozen_network() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    model.load_state_dict({name: torch.from_numpy(value) for name, value in load_file(FROZEN).items()})
    digits = load_digits()
    rows = list(FROZEN_ROWS)
    x = torch.from_numpy((digits.images.reshape(-1, 64)[rows] / 16).astype(np.float32))
    return model.eval(), x, torch.from_numpy(digits.target[rows])


def plain(*, sign=1.0, steps=40, reach=2.5, projects=True, detached=False, clamps_in_graph=False):
    """Plain PGD with one thing wrong; right when nothing is given.

    ``clamps_in_graph`` is the fault that overstates robustness most quietly: a pixel pushed past the edge of the box
    has no gradient there and never comes back.
    """

    def attack(model, x, y, threat, *, generator):
        box = (-10.0, 10.0) if clamps_in_graph else threat.bounds
        ball = ThreatModel(norm=threat.norm, epsilon=threat.epsilon, bounds=box)
        step = sign * reach * (2 if threat.norm == "l2" else 1) * threat.epsilon / 40
        x_adv = random_start(ball, x, generator)
        for _ in range(steps):
            gradient = gradient_at(model, x_adv, y, threat) if not detached else torch.randn_like(x)
            x_adv = x_adv + step * steepest(threat, gradient)
            x_adv = project(ball, x, x_adv) if projects else x_adv.clamp(*threat.bounds)
        return x_adv.clamp(*threat.bounds)

    def gradient_at(model, x_adv, y, threat):
        at = x_adv.detach().requires_grad_()
        with torch.enable_grad():
            seen = at.clamp(*threat.bounds) if clamps_in_graph else at
            loss = functional.cross_entropy(model(seen), y, reduction="sum")
            return torch.autograd.grad(loss, at)[0]

    return attack
