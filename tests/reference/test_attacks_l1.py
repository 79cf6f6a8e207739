"""The L1 ball inside the box: its geometry against solvers, and the attacks against the exact worst case in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from assay.attacks import geometry, l1
from assay.attacks.apgd import APGD
from assay.attacks.fgsm import FGSM
from assay.attacks.geometry import project, size
from assay.attacks.l1 import ball_in_box, dearest_first
from assay.attacks.pgd import PGD
from assay.evaluate.ladder import ladder
from assay.evaluate.selftest import self_test, worst_loss
from assay.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
ATTACKS = {
    "fgsm": {},
    "pgd": {"restarts": 1},
    "apgd": {"steps": 50},
    "apgd_targeted": {"steps": 50, "start": "tiles"},
    "fab": {"steps": 30},
}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), epsilon=st.floats(0.01, 4.0))
def test_the_projection_is_the_nearest_point_that_a_convex_solver_finds(seed: int, epsilon: float) -> None:
    """Reference: scipy's SLSQP over a difference of two non-negative parts, which makes ball and box linear."""
    draw = np.random.default_rng(seed)
    x, far = np.clip(draw.uniform(-0.3, 1.3, 5), 0, 1), 1.5 * draw.standard_normal(5)
    threat = ThreatModel(norm="l1", epsilon=epsilon)
    near = project(threat, torch.tensor(x)[None], torch.tensor(x + far)[None])[0].numpy() - x
    assert np.abs(near).sum() <= epsilon + 1e-12
    assert (x + near).min() >= 0
    assert (x + near).max() <= 1
    found = minimize(
        lambda parts: ((parts[:5] - parts[5:] - far) ** 2).sum(),
        np.zeros(10),
        jac=lambda parts: _slope(parts, far),
        bounds=[(0, 1 - v) for v in x] + [(0, v) for v in x],
        constraints={"type": "ineq", "fun": lambda parts: epsilon - parts.sum(), "jac": lambda parts: -np.ones(10)},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.success
    assert ((near - far) ** 2).sum() == pytest.approx(found.fun, abs=1e-6)


def _slope(parts: np.ndarray, far: np.ndarray) -> np.ndarray:
    apart = 2 * (parts[:5] - parts[5:] - far)
    return np.concatenate([apart, -apart])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), epsilon=st.floats(0.01, 6.0))
def test_the_dearest_features_first_is_the_worst_case_of_a_plane(seed: int, epsilon: float) -> None:
    """Reference: `worst_loss`, which is held to linear programming in test_evaluate_exact."""
    draw = np.random.default_rng(seed)
    weight, x = draw.standard_normal(7), np.clip(draw.uniform(-0.3, 1.3, (4, 7)), 0, 1)
    threat = ThreatModel(norm="l1", epsilon=epsilon)
    gradient = torch.tensor(weight).expand(4, 7)
    moved = geometry.ahead(threat, torch.tensor(x), gradient, epsilon).numpy()
    assert (moved - x) @ weight == pytest.approx(worst_loss(weight, x, -np.ones(4), threat))
    assert np.abs(moved - x).sum(1).max() <= epsilon + 1e-12
    assert moved.min() >= 0
    assert moved.max() <= 1


@pytest.mark.parametrize("name", list(ATTACKS))
@pytest.mark.parametrize(("epsilon", "bounds"), [(0.1, (0.0, 1.0)), (2.0, (0.0, 1.0)), (4.0, (-3.0, 5.0))])
def test_attacks_reach_the_exact_worst_case_in_ball_and_box(
    name: str, epsilon: float, bounds: tuple[float, float]
) -> None:
    threat = ThreatModel(norm="l1", epsilon=epsilon, bounds=bounds)
    assert self_test(ladder({name: ATTACKS[name]}), threat, CPU)


PROJECTIONS = {
    "sees the ball alone": lambda delta, room, epsilon: ball_in_box(delta, room + 9, epsilon),
    "scales as L2 does": lambda delta, room, epsilon: delta * (epsilon / delta.abs().sum(1, keepdim=True)).clamp_max(1),
}


@pytest.mark.parametrize("name", list(PROJECTIONS))
def test_a_broken_projection_is_farther_away(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    far = x + torch.randn(50, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    threat = ThreatModel(norm="l1", epsilon=1.0)
    nearest = (project(threat, x, far) - far).norm(dim=1)
    monkeypatch.setattr(geometry, "ball_in_box", PROJECTIONS[name])
    assert ((project(threat, x, far) - far).norm(dim=1) > nearest + 1e-3).any()


MUTANTS = {
    "steps through the box": ("dearest_first", lambda slope, room, length: dearest_first(slope, room + 9, length)),
    "steps along the gradient": (
        "dearest_first",
        lambda slope, room, length: length * slope / slope.abs().sum(1, keepdim=True),
    ),
    "cheapest first": (
        "dearest_first",
        lambda slope, room, length: slope.sign() * dearest_first(1 / slope, room, length).abs(),
    ),
}


@pytest.mark.parametrize("name", list(MUTANTS))
def test_a_broken_geometry_fails_a_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part, broken = MUTANTS[name]
    assert hasattr(l1, part)
    monkeypatch.setattr(geometry, part, broken)
    threat = ThreatModel(norm="l1", epsilon=2.0)
    each = [self_test(ladder({attack: ATTACKS[attack]}), threat, CPU) for attack in ("fgsm", "pgd", "apgd")]
    assert not all(each)


def test_square_comes_near_the_worst_case_without_a_gradient() -> None:
    assert self_test(ladder({"square": {"queries": 2000}}), ThreatModel(norm="l1", epsilon=4.0), CPU)


def test_one_step_is_exact_and_moves_few_features() -> None:
    draw = np.random.default_rng(0)
    weight, x = draw.standard_normal(30), draw.uniform(0.2, 0.8, (5, 30))
    model = torch.nn.Linear(30, 2).double().eval()
    with torch.no_grad():
        model.weight.copy_(torch.tensor(np.stack([-weight, weight]) / 2))
    threat, y = ThreatModel(norm="l1", epsilon=1.5), torch.zeros(5, dtype=torch.int64)
    for attack in (FGSM(), APGD(steps=100), PGD(steps=100, restarts=1)):
        x_adv = attack(model, torch.tensor(x), y, threat, generator=torch.Generator().manual_seed(0))
        delta = x_adv - torch.tensor(x)
        assert (size(threat, delta) <= 1.5 + 1e-9).all()
        lost = 1 - (delta @ torch.tensor(weight)).numpy() / worst_loss(weight, x, -np.ones(5), threat)
        assert lost.max() <= 0.03
    assert (
        (FGSM()(model, torch.tensor(x), y, threat, generator=torch.Generator()) != torch.tensor(x)).sum(1) <= 8
    ).all()
