"""The worst error of a regression model against exact answers: closed forms, linear programs, brute force."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import nn

from assay.attacks.pgd import PGD
from assay.constraints import Constraints
from assay.errors import UnfitInput
from assay.evaluate.layers import layers_of
from assay.evaluate.worst_error import attacks_of, plane_reached, reach
from assay.threat import ThreatModel

ATTACKS = attacks_of({"pgd": {"steps": 40, "restarts": 2}})


def plane(features: int = 6, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(features, 1)).eval().requires_grad_(False)


def net(features: int = 2, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(features, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1)]
        made = nn.Sequential(*layers)
        for at in (0, 2, 4):
            made[at].weight.data.mul_(2)
        return made.eval().requires_grad_(False)


def records(features: int, n: int, seed: int = 1) -> tuple[torch.Tensor, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = np.clip(draw.uniform(-0.2, 1.2, (n, features)), 0, 1).astype(np.float32)
    return torch.from_numpy(x), draw.normal(size=n)


def extreme(weight: np.ndarray, x: np.ndarray, threat: ThreatModel, sign: float) -> float:
    """The greatest sign * weight.x' by a solver that knows nothing of assay."""
    low, high = threat.bounds
    d = len(x)
    if threat.norm == "l0":
        gains = np.maximum(sign * weight * (high - x), sign * weight * (low - x))
        chosen = max(combinations(range(d), int(threat.epsilon)), key=lambda some: gains[list(some)].sum())
        return float(sign * weight @ x + gains[list(chosen)].sum())
    if threat.norm == "l2":
        best = minimize(
            lambda at: -sign * weight @ at,
            x,
            jac=lambda at: -sign * weight,
            bounds=[(low, high)] * d,
            constraints={"type": "ineq", "fun": lambda at: threat.epsilon**2 - ((at - x) ** 2).sum()},
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        )
        return float(-best.fun)
    if threat.norm == "linf":
        box = [(max(low, value - threat.epsilon), min(high, value + threat.epsilon)) for value in x]
        return float(-linprog(-sign * weight, bounds=box).fun)
    eye, one = np.eye(d), np.ones((1, d))
    rows = np.block([[eye, -eye], [-eye, -eye], [np.zeros((1, d)), one]])  # |x' - x| <= t, sum t <= epsilon
    right = np.concatenate([x, -x, [threat.epsilon]])
    cost = np.concatenate([-sign * weight, np.zeros(d)])
    return float(-linprog(cost, A_ub=rows, b_ub=right, bounds=[(low, high)] * d + [(0, None)] * d).fun)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.3), ("l1", 0.6), ("l0", 2)])
def test_the_worst_error_of_an_affine_model_is_exact_in_every_norm(norm, epsilon):
    model, (x, y) = plane(), records(6, 20)
    threat = ThreatModel(norm=norm, epsilon=epsilon)
    found = reach(model, layers_of(model, (6,)), x, y, threat, ATTACKS, seed=0, block=0)
    weight, bias = model[0].weight[0].double().numpy(), float(model[0].bias)
    wide = x.double().numpy()
    exact = [
        max(abs(sign * extreme(weight, row, threat, sign) + bias - label) for sign in (1.0, -1.0))
        for row, label in zip(wide, y, strict=True)
    ]
    np.testing.assert_allclose(found.found, exact, atol=1e-4)
    np.testing.assert_allclose(found.bound, exact, atol=1e-4)
    assert (found.found <= found.bound).all()
    assert not found.outside


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.15), ("l1", 0.2)])
def test_the_worst_error_of_a_net_of_two_features_lies_between_what_is_found_and_what_is_proven(norm, epsilon):
    """Brute force over a grid of 401 x 401 points; between grid points the net moves less than the slack."""
    threat, slack = ThreatModel(norm=norm, epsilon=epsilon), 0.02
    steps = np.linspace(-epsilon, epsilon, 401)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    ball = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    ball = ball[np.linalg.norm(ball, ord=order, axis=1) <= epsilon]
    for seed in range(2):
        model, (x, y) = net(seed=seed), records(2, 8, seed)
        found = reach(model, layers_of(model, (2,)), x, y, threat, ATTACKS, seed=0, block=0)
        for at in range(len(x)):
            points = x[at].double().numpy() + ball
            inside = torch.from_numpy(points[((points >= 0) & (points <= 1)).all(1)].astype(np.float32))
            said = model(inside)[:, 0].double().numpy()
            brute = np.abs(said - y[at]).max()
            assert brute - slack <= found.found[at] <= brute + slack
            assert brute <= found.bound[at]
            clean = float(model(x[at : at + 1]))
            assert np.abs(said - clean).max() <= found.limit[at], "the Lipschitz bound"
            assert found.change[at] == pytest.approx(np.abs(said - clean).max(), abs=slack)


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.05), ("l2", 0.2), ("l1", 0.5)])
def test_nothing_inside_the_ball_exceeds_the_bound(norm, epsilon):
    """Property, on 2,000 points a record."""
    model, (x, y) = net(10, seed=3), records(10, 12)
    threat = ThreatModel(norm=norm, epsilon=epsilon)
    found = reach(model, layers_of(model, (10,)), x, y, threat, {}, seed=0, block=0)
    draw = np.random.default_rng(0)
    for at in range(len(x)):
        delta = draw.normal(size=(2000, 10))
        order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
        delta *= epsilon / np.linalg.norm(delta, ord=order, axis=1, keepdims=True)
        points = np.clip(x[at].double().numpy() + delta, 0, 1).astype(np.float32)
        said = model(torch.from_numpy(points))[:, 0].double().numpy()
        assert np.abs(said - y[at]).max() <= found.bound[at]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["linf:0.1", "l2:0.5", "l1:1.0"])
def test_the_self_test_holds_for_honest_attacks(text):
    threat = ThreatModel.parse(text)
    assert plane_reached(attacks_of({"pgd": {"steps": 40, "restarts": 1}}), threat)
    assert plane_reached(attacks_of({"apgd": {"steps": 60}}), threat)
    assert plane_reached(attacks_of({"fgsm": {}, "pgd": {"steps": 40, "restarts": 1}}), threat)


@dataclass(frozen=True)
class Broken:
    """An attack with one thing wrong."""

    attack: Any
    how: str

    def __call__(self, model, x, y, threat, *, generator):
        if self.how == "short":
            return self.attack(model, x, y, replace(threat, epsilon=0.8 * threat.epsilon), generator=generator)
        if self.how == "idle":
            return x
        moved = self.attack(model, x, y, threat, generator=generator)
        return moved + 0.5 * (moved - x) if self.how == "outside" else torch.where(y[:, None] == 0, x, moved)


@pytest.mark.parametrize("how", ["short", "idle", "outside", "one side"])
@pytest.mark.parametrize("text", ["linf:0.1", "l2:0.5"])
def test_the_self_test_catches_broken_attacks(how, text):
    broken = {"pgd": Broken(PGD(steps=40, restarts=1, loss="margin"), how)}
    assert not plane_reached(broken, ThreatModel.parse(text))


@pytest.mark.parametrize(
    "name", ["apgd_targeted", "fab", "deepfool", "carlini_wagner", "square", "hopskipjump", "coordinate"]
)
def test_refuses_attacks_that_look_for_the_border_of_a_class(name):
    with pytest.raises(UnfitInput, match=name):
        attacks_of({name: {}})


@pytest.mark.slow
def test_constraints_leave_the_bound_true_and_the_attack_inside():
    """With the first two columns immutable the exact worst case is that of the others; the bound may be that of all."""
    model, (x, y) = plane(), records(6, 20)
    still = (0.0, 0.0, None, None, None, None)
    kept = Constraints(key="two", columns=tuple("abcdef"), down=still, up=still, integer=(False,) * 6)
    threat = ThreatModel(norm="linf", epsilon=0.1, constraints=kept)
    found = reach(model, layers_of(model, (6,)), x, y, threat, ATTACKS, seed=0, block=0)
    weight, bias = model[0].weight[0].double().numpy(), float(model[0].bias)
    free = ThreatModel(norm="linf", epsilon=0.1)
    moving = weight * np.array([0, 0, 1, 1, 1, 1])
    exact = [
        max(
            abs(sign * extreme(moving, row, free, sign) + (weight - moving) @ row + bias - label)
            for sign in (1.0, -1.0)
        )
        for row, label in zip(x.double().numpy(), y, strict=True)
    ]
    np.testing.assert_allclose(found.found, exact, atol=1e-3)
    assert (found.bound >= np.array(exact)).all()
    assert not found.outside
