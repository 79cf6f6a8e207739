"""Attacks against exact answers: a linear model's worst case, brute force, and a network solved by integer programming.

An attack that is wrong in one small way still lowers accuracy, and so passes the tests that are usual in the field.
Each check here is a number that only a right attack reaches; the broken attacks below must each fail at least one.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.optimize import Bounds, LinearConstraint, milp
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from assay.attacks.apgd import APGD, checkpoints
from assay.attacks.apgd_targeted import APGDTargeted
from assay.attacks.fab import FAB, to_plane
from assay.attacks.fgsm import FGSM
from assay.attacks.geometry import ahead, project, random_start, size, steepest
from assay.attacks.objective import aimed, dlr, log_odds, margin, probability_margin
from assay.attacks.pgd import PGD
from assay.attacks.square import Square
from assay.evaluate.selftest import worst_loss
from assay.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("one_thread")

LOST = {"linf": 1e-9, "l2": 0.03}
FROZEN = Path(__file__).with_name("digits_mlp.safetensors")
FROZEN_EPSILON, FROZEN_ROBUST, FROZEN_ROWS = 0.1, 58, range(1400, 1500)


# ---- the checks: each takes an attack and returns how far it is from the exact answer


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


def passes_all(attack) -> bool:
    return (
        max(linear_shortfall(attack, "linf") / LOST["linf"], linear_shortfall(attack, "l2") / LOST["l2"]) <= 1
        and linear_shortfall_in_a_box(attack) <= 1e-9
        and max(leaves_the_ball(attack, norm) for norm in LOST) <= 1e-12
        and FROZEN_ROBUST <= frozen_robust(attack) <= FROZEN_ROBUST + 2
    )


# ---- what is attacked


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


# ---- broken attacks, each wrong in one way


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


MUTANTS = {
    "sign flipped": plain(sign=-1.0),
    "one tiny step": plain(steps=1),
    "no projection": plain(projects=False),
    "path of 1.33 epsilon": plain(reach=1.33),
    "gradient detached": plain(detached=True),
    "clamp inside the graph": plain(clamps_in_graph=True),
    "returns its input": lambda model, x, y, threat, *, generator: x,
}


# ---- the tests


ASCENTS = [
    PGD(),
    PGD(restarts=1),
    PGD(restarts=1, loss="margin"),
    PGD(restarts=1, loss="dlr"),
    PGD(restarts=1, loss="probability"),
    PGD(restarts=1, momentum=0.9),
    FGSM(),
    *(APGD(steps=40, loss=loss) for loss in ("ce", "margin", "dlr", "probability")),
    APGDTargeted(steps=40),
    APGDTargeted(steps=40, loss="margin"),
]


@pytest.mark.parametrize("attack", ASCENTS, ids=repr)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_reaches_the_closed_form_worst_case_of_a_linear_model(attack, norm):
    assert linear_shortfall(attack, norm) <= LOST[norm]


@pytest.mark.parametrize("attack", [PGD(restarts=1), FGSM(), APGD(steps=40), APGDTargeted(steps=40)], ids=repr)
def test_reaches_the_worst_case_of_a_linear_model_where_the_box_cuts_the_ball(attack):
    assert linear_shortfall_in_a_box(attack) <= 1e-9


TWO_FEATURES = {
    "pgd": PGD(steps=100),
    "pgd margin": PGD(steps=100, loss="margin"),
    "apgd": APGD(steps=50, restarts=5),
    "apgd dlr": APGD(steps=50, restarts=5, loss="dlr"),
    "apgd probability": APGD(steps=50, restarts=5, loss="probability"),
    "apgd targeted": APGDTargeted(steps=50, restarts=3),
    "apgd targeted margin": APGDTargeted(steps=50, restarts=3, loss="margin"),
    "fab": FAB(steps=50, restarts=3),
    "square": Square(queries=400),
}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", list(TWO_FEATURES))
def test_finds_what_brute_force_finds_on_two_features(norm, name):
    """Reference: a grid of 101 x 101 points over ball and box, which can only miss by what lies between two points.

    A border that winds has several tops in a ball; one record of about 23 may be missed. A wrong attack misses most.
    """
    rng = torch.Generator().manual_seed(5)
    model, threat = Winding().eval(), ThreatModel(norm=norm, epsilon=0.05)
    x = torch.rand(40, 2, generator=rng, dtype=torch.float64)
    y = model(x).argmax(1)
    steps = torch.linspace(-0.05, 0.05, 101, dtype=torch.float64)
    delta = torch.cartesian_prod(steps, steps)
    delta = delta[size(threat, delta) <= 0.05]
    points = (x[:, None] + delta).clamp(0, 1)
    with torch.no_grad():
        exact = margin(model(points.flatten(0, 1)), y.repeat_interleave(len(delta))).reshape(len(x), -1).amax(1)
        x_adv = TWO_FEATURES[name](model, x, y, threat, generator=rng)
        reached = margin(model(x_adv), y)
    assert 20 < (exact > 0).sum() < 30
    assert not ((reached > 0) & (exact < -0.02)).any()
    assert ((reached <= 0) & (exact > 0)).sum() <= 1, "a top beside the one that an ascent began under"


FROZEN_ATTACKS = [
    PGD(),
    PGD(loss="margin"),
    PGD(drop=True),
    APGD(drop=True),
    APGD(loss="dlr", drop=True, restarts=3),
    APGDTargeted(drop=True, steps=50),
    APGDTargeted(drop=True, steps=50, loss="margin"),
    FAB(drop=True, steps=40, targets=3),
    Square(drop=True, queries=1500),
]


@pytest.mark.parametrize("attack", FROZEN_ATTACKS, ids=repr)
def test_finds_the_exact_robust_accuracy_of_a_frozen_network_within_two_points(attack):
    """No attack can go below 58 of 100, which integer programming proves (see the slow test)."""
    assert FROZEN_ROBUST <= frozen_robust(attack) <= FROZEN_ROBUST + 2


def test_an_attack_with_nothing_broken_passes_every_check():
    assert passes_all(PGD())
    assert passes_all(plain())


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_attack_fails_a_check(name):
    assert not passes_all(MUTANTS[name])


def test_a_clamp_inside_the_graph_is_caught_by_the_frozen_network():
    assert frozen_robust(plain(clamps_in_graph=True)) > FROZEN_ROBUST + 2


def test_multiplying_the_logits_does_not_hide_a_model():
    """Cross-entropy saturates in float32 at logits x 10,000, and plain PGD then finds little; the log odds do not."""
    model, x, y = frozen_network()

    class Loud(nn.Module):
        def forward(self, x):
            return 1e4 * model(x)

    def robust(attack):
        x_adv = attack(Loud().eval(), x, y, ThreatModel(epsilon=0.1), generator=torch.Generator().manual_seed(0))
        return int((model(x_adv).argmax(1) == y).sum())

    assert robust(PGD()) <= FROZEN_ROBUST + 2
    assert robust(plain()) > FROZEN_ROBUST + 10


def test_log_odds_order_examples_as_cross_entropy_does():
    logits = torch.randn(500, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(500) % 7
    expected = functional.cross_entropy(logits, y, reduction="none")
    torch.testing.assert_close(functional.softplus(log_odds(logits, y)), expected, rtol=1e-12, atol=1e-12)


# ---- the parts of the attacks


def test_dropping_what_is_broken_breaks_the_same_records():
    """PGD draws its starts for all records at once, so that who has left changes nothing for the others."""
    model, x, y = frozen_network()
    threat = ThreatModel(epsilon=FROZEN_EPSILON)
    found = [
        PGD(restarts=2, drop=drop)(model, x, y, threat, generator=torch.Generator().manual_seed(0))
        for drop in (False, True)
    ]
    wrong = [model(x_adv).argmax(1) != y for x_adv in found]
    assert torch.equal(*wrong)


def test_checkpoints_are_those_of_the_paper():
    """Section 3.1: p_0 = 0, p_1 = .22, p_(j+1) = p_j + max(p_j - p_(j-1) - .03, .06), times the steps, rounded up."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == [1]


def test_the_losses_are_their_formulas():
    logits, y = torch.tensor([[3.0, 1.0, 0.5, -1.0], [2.0, 4.0, 1.0, 1.5]]), torch.tensor([0, 0])
    assert margin(logits, y).tolist() == [-2.0, 2.0]
    assert dlr(logits, y).tolist() == pytest.approx([-(3 - 1) / (3 - 0.5), (4 - 2) / (4 - 1.5)])
    p = logits.softmax(1)
    assert probability_margin(logits, y).tolist() == pytest.approx([float(p[0, 1] - p[0, 0]), float(p[1, 1] - p[1, 0])])
    target = torch.tensor([2, 3])
    expected = [-(3 - 0.5) / (3 - (0.5 - 1.0) / 2), -(2 - 1.5) / (4 - (1.5 + 1.0) / 2)]
    assert aimed("dlr", logits, y, target).tolist() == pytest.approx(expected)
    assert dlr(5 * logits + 2, y).tolist() == pytest.approx(dlr(logits, y).tolist())
    for classes in (2, 3):  # no third or fourth logit: what stands in still points the same way
        few = logits[:, :classes]
        assert torch.isfinite(aimed("dlr", few, y, torch.ones_like(y))).all()
        assert torch.equal(dlr(few, y).sign(), margin(few, y).sign())


def test_logits_that_tie_at_the_top_leave_the_ratio_finite():
    logits, y = torch.zeros(1, 5), torch.tensor([0])
    for loss in (dlr(logits, y), aimed("dlr", logits, y, y + 1), probability_margin(logits, y)):
        assert torch.isfinite(loss).all()


@settings(max_examples=50, deadline=None)
@given(norm=st.sampled_from(["linf", "l2", "l1"]), seed=st.integers(0, 2**31), share=st.floats(0.01, 1.5))
def test_the_nearest_point_of_a_plane_in_a_box_is_that_of_a_convex_solver(norm, seed, share):
    """Reference: the least epsilon whose worst case (see test_evaluate_exact) closes the gap, by bisection."""
    draw = np.random.default_rng(seed)
    weight, x = draw.standard_normal(7), np.clip(draw.uniform(-0.3, 1.3, (1, 7)), 0, 1)
    weight[draw.random(7) < 0.2] = 0.0
    farthest = worst_loss(weight, x, np.array([1.0]), ThreatModel(norm="linf", epsilon=1.0))[0]
    gap = share * farthest
    step = to_plane(norm, torch.tensor(x), torch.tensor(weight)[None], torch.tensor([gap]), (0.0, 1.0)).numpy()
    assert (x + step).min() >= -1e-12
    assert (x + step).max() <= 1 + 1e-12
    if share > 1:
        assert -(step @ weight)[0] == pytest.approx(farthest)
        return
    assert -(step @ weight)[0] == pytest.approx(gap, abs=1e-9)
    low, high = 1e-9, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        threat = ThreatModel(norm=norm, epsilon=middle, bounds=(0.0, 1.0)) if norm != "linf" or middle <= 1 else None
        enough = threat is None or worst_loss(weight, x, np.array([1.0]), threat)[0] >= gap
        low, high = (low, middle) if enough else (middle, high)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    assert np.linalg.norm(step[0], ord=order) == pytest.approx(high, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr", "probability"])
def test_apgd_comes_near_a_top_inside_the_ball(loss):
    assert shortfall_of_a_top_inside(APGD(steps=40, loss=loss)) <= 0.01


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fab_finds_the_distance_of_a_plane(norm):
    """Reference: |w.x + b| / ||w||_dual. A ball a thousandth larger is broken, one a thousandth smaller is not."""
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Linear(12, 2).double().eval()
    x = 0.4 + 0.2 * torch.rand(50, 12, generator=rng, dtype=torch.float64)
    y = model(x).argmax(1)
    dual = (model.weight[0] - model.weight[1]).norm(p=1 if norm == "linf" else 2)
    distance = (margin(model(x), y).abs() / dual).detach()
    for row in range(4):
        for factor, broken in ((1.001, True), (0.999, False)):
            threat = ThreatModel(norm=norm, epsilon=factor * float(distance[row]), bounds=(-9.0, 9.0))
            one = (x[row : row + 1], y[row : row + 1])
            x_adv = FAB(steps=30)(model, *one, threat, generator=rng)
            assert bool((model(x_adv).argmax(1) != one[1]).item()) == broken


# ---- mutants of the adaptive attacks: each broken in one place, each must lose on an exact check


def no_halving(at, window):
    return dataclasses.replace(at, rises=torch.zeros_like(at.rises))


APGD_MUTANTS = {
    "sign flipped": ("ahead", lambda threat, here, gradient, length: ahead(threat, here, -gradient, length)),
    "one tiny step": ("_step", lambda best, at, *rest: at),
    "no projection": ("project", lambda threat, x, x_adv: x_adv.clamp(*threat.bounds)),
    "never halves its step": ("_check", no_halving),
    "gradient of noise": (
        "ahead",
        lambda threat, here, gradient, length: ahead(threat, here, torch.randn_like(gradient), length),
    ),
}


@pytest.mark.parametrize("name", list(APGD_MUTANTS))
def test_a_broken_apgd_fails_a_check(name, monkeypatch):
    part, broken = APGD_MUTANTS[name]
    monkeypatch.setattr(f"assay.attacks.apgd.{part}", broken)
    attack = APGD(steps=40)
    fails = (
        shortfall_of_a_top_inside(attack) > 0.01
        or linear_shortfall(attack, "linf") > LOST["linf"]
        or linear_shortfall(attack, "l2") > 1e-6
        or max(leaves_the_ball(attack, norm) for norm in LOST) > 1e-12
        or not FROZEN_ROBUST <= frozen_robust(APGD(steps=40, drop=True)) <= FROZEN_ROBUST + 2
    )
    assert fails


FAB_MUTANTS = {
    "sign flipped": ("to_plane", lambda norm, x, weight, gap, bounds: -to_plane(norm, x, weight, gap, bounds)),
    "half the way": ("to_plane", lambda norm, x, weight, gap, bounds: to_plane(norm, x, weight, gap, bounds) / 2),
    "gradient of noise": (
        "to_plane",
        lambda norm, x, weight, gap, bounds: to_plane(norm, x, torch.randn_like(weight), gap, bounds),
    ),
}


@pytest.mark.parametrize("name", list(FAB_MUTANTS))
def test_a_broken_fab_fails_a_check(name, monkeypatch):
    part, broken = FAB_MUTANTS[name]
    monkeypatch.setattr(f"assay.attacks.fab.{part}", broken)
    assert frozen_robust(FAB(steps=10, targets=3, drop=True)) > FROZEN_ROBUST + 2


SQUARE_MUTANTS = {
    "keeps the worse": ("margin", lambda logits, y: -margin(logits, y)),
    "never shrinks": ("SHRINKS", ()),
    "proposes nothing": ("_linf", lambda threat, x, here, share, generator: here),
}


@pytest.mark.parametrize("name", list(SQUARE_MUTANTS))
def test_a_broken_square_fails_a_check(name, monkeypatch):
    part, broken = SQUARE_MUTANTS[name]
    monkeypatch.setattr(f"assay.attacks.square.{part}", broken)
    assert frozen_robust(Square(queries=1000, drop=True)) > FROZEN_ROBUST + 3


@pytest.mark.slow
def test_integer_programming_proves_the_frozen_number():
    """Exact: the network's worst case over ball and box as a mixed-integer program (Tjeng et al., ICLR 2019), HiGHS."""
    weights = {name: value.astype(np.float64) for name, value in load_file(FROZEN).items()}
    digits = load_digits()
    worst = [
        worst_margin(weights, digits.images.reshape(-1, 64)[row] / 16, int(digits.target[row])) for row in FROZEN_ROWS
    ]
    assert sum(value < 0 for value in worst) == FROZEN_ROBUST
    assert min(map(abs, worst)) > 1e-3, "no record so near the border that rounding could move it"


def worst_margin(weights: dict[str, np.ndarray], x: np.ndarray, y: int) -> float:
    """Greatest margin of a wrong class over the ball, or the first that is above 0."""
    w1, b1, w2, b2 = (weights[name] for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    low, high = np.clip(x - FROZEN_EPSILON, 0, 1), np.clip(x + FROZEN_EPSILON, 0, 1)
    middle, radius = w1 @ (low + high) / 2 + b1, np.abs(w1) @ (high - low) / 2
    least, most = np.minimum(middle - radius, 0), np.maximum(middle + radius, 0)
    hidden, pixels = len(b1), len(x)
    eye, none = np.eye(hidden), np.zeros((hidden, pixels))
    rows = LinearConstraint(  # variables: pixels, activations, on or off
        np.block([[-w1, eye, 0 * eye], [-w1, eye, -np.diag(least)], [none, eye, -np.diag(most)]]),
        np.concatenate([b1, np.full(2 * hidden, -np.inf)]),
        np.concatenate([np.full(hidden, np.inf), b1 - least, np.zeros(hidden)]),
    )
    on, off = middle - radius > 0, middle + radius < 0
    box = Bounds(np.concatenate([low, 0 * most, on]), np.concatenate([high, most, ~off]))
    integer = np.concatenate([np.zeros(pixels + hidden), np.ones(hidden)])
    worst = -math.inf
    for wrong in set(range(10)) - {y}:
        v, constant = w2[wrong] - w2[y], b2[wrong] - b2[y]
        if np.maximum(v, 0) @ most + np.minimum(v, 0) @ np.maximum(middle - radius, 0) + constant < worst:
            continue
        solved = milp(
            np.concatenate([np.zeros(pixels), -v, np.zeros(hidden)]), constraints=rows, integrality=integer, bounds=box
        )
        worst = max(worst, constant - solved.fun)
        if worst > 0:
            break
    return worst
