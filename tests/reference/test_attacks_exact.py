"""Attacks against exact answers: a linear model's worst case, brute force, a network solved by integer programming."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from attack_cases import (
    FROZEN,
    FROZEN_EPSILON,
    FROZEN_ROBUST,
    FROZEN_ROWS,
    LOST,
    Winding,
    frozen_network,
    frozen_robust,
    linear_shortfall,
    linear_shortfall_in_a_box,
    plain,
    shortfall_of_a_top_inside,
)
from safetensors.numpy import load_file
from scipy.optimize import Bounds, LinearConstraint, milp
from sklearn.datasets import load_digits
from torch import nn

from assay.attacks.apgd import APGD
from assay.attacks.apgd_targeted import APGDTargeted
from assay.attacks.fab import FAB
from assay.attacks.fgsm import FGSM
from assay.attacks.geometry import size
from assay.attacks.objective import margin
from assay.attacks.pgd import PGD
from assay.attacks.square import Square
from assay.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("one_thread")


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
