"""Attacks on tables against exact answers: linear and integer programs of scipy, which know nothing of projections."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, linprog, milp, minimize
from torch import nn

from assay import catalog
from assay.attacks import feasible
from assay.attacks.coordinate import Coordinate
from assay.attacks.pgd import PGD
from assay.config.base import parse
from assay.config.constraints import ConstraintsConfig
from assay.constraints import Constraints, bind
from assay.evaluate.ladder import climb, ladder
from assay.evaluate.outcomes import STANDS
from assay.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("one_thread")

COLUMNS = ("age", "income", "debt", "years", "children", "rooms", "rent", "own", "other", "score")
DECLARED: dict[str, Any] = {
    "immutable": ["age"],
    "only_up": ["years"],
    "only_down": ["score"],
    "integer": ["children", "rooms"],
    "one_hot": [["rent", "own", "other"]],
    "budgets": {"income": 1.5, "rooms": 2},
    "relations": [
        {"sum": {"debt": 1, "income": -1}, "at_most": 0},
        {"sum": {"children": 1, "rooms": -2}, "at_most": 1},
        {"sum": {"debt": 1, "years": 0.5, "score": 1}, "at_least": 1, "at_most": 6},
    ],
}
BOX = (0.0, 8.0)


def constraints(**changes: Any) -> Constraints:
    document = {key: value for key, value in (DECLARED | changes).items() if value is not None}
    return bind(parse(ConstraintsConfig, document, "constraints"), COLUMNS)


def rows(n: int, seed: int = 0) -> torch.Tensor:
    """Sound rows, drawn and then filtered by the relations as they are written above, not by the code under test."""
    draw, found = np.random.default_rng(seed), []
    while len(found) < n:
        age, income, debt, years, score = draw.uniform(0.5, 4, 5)
        children, rooms, home = draw.integers(0, 5), draw.integers(1, 6), np.eye(3)[draw.integers(3)]
        if debt <= income and children - 2 * rooms <= 1 and 1 <= debt + 0.5 * years + score <= 6:
            found.append([age, income, debt, years, children, rooms, *home, score])
    return torch.tensor(np.array(found), dtype=torch.float32)


def plane(seed: int, classes: int = 2) -> nn.Linear:
    weight = np.random.default_rng(seed).normal(size=len(COLUMNS))
    model = nn.Linear(len(COLUMNS), classes)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(np.stack([-weight, weight]) / 2))
        model.bias.zero_()
    return model.eval().requires_grad_(False)


def worst(weight: np.ndarray, x: np.ndarray, epsilon: float, integer: bool, declared: Constraints) -> float:
    """Least ``weight @ x_adv`` over every sound row that x may become, by HiGHS: a linear or an integer program."""
    down, up = declared.reach()
    low, high = np.maximum(BOX[0], x - np.minimum(down, epsilon)), np.minimum(BOX[1], x + np.minimum(up, epsilon))
    matrix = [np.array(relation.coefficients) for relation in declared.relations]
    bounds = [relation.bound for relation in declared.relations]
    groups = [np.isin(np.arange(len(x)), group).astype(float) for group in declared.one_hot]
    if not integer:
        done = linprog(
            weight,
            A_ub=matrix or None,
            b_ub=bounds or None,
            A_eq=groups or None,
            b_eq=[1] * len(groups) or None,
            bounds=list(zip(low, high, strict=True)),
        )
    else:
        whole = np.array(declared.integer) | np.isin(
            np.arange(len(x)), [at for group in declared.one_hot for at in group]
        )
        limits = [LinearConstraint(np.array(matrix), ub=bounds)] + [LinearConstraint(one, 1, 1) for one in groups]
        done = milp(weight, constraints=limits, bounds=Bounds(low, high), integrality=whole.astype(int))
    assert done.success, done.message
    return float(done.fun)


def shares(
    attack: Any, declared: Constraints, *, epsilon: float = 2.0, integer: bool, planes: int = 4, n: int = 12
) -> np.ndarray:
    """Of the fall of the margin that the program proves possible, the share that the attack reaches, per record."""
    threat = ThreatModel(epsilon=epsilon, bounds=BOX, constraints=declared)
    found = []
    for seed in range(planes):
        model, x = plane(seed), rows(n, seed)
        weight = (model.weight[1] - model.weight[0]).double().numpy()
        reached = feasible.whole(threat, x, attack(
            feasible.through_rounding(model, declared), x, torch.ones(n, dtype=torch.int64), threat,
            generator=torch.Generator().manual_seed(seed)))  # fmt: skip
        assert feasible.holds(threat, x, reached).all()
        for before, after in zip(x.double().numpy(), reached.double().numpy(), strict=True):
            best = worst(weight, before, epsilon, integer, declared)
            found.append((weight @ before - weight @ after) / (weight @ before - best))
    return np.array(found)


FREE = {"integer": None, "one_hot": None, "relations": None}
CONTINUOUS = {"integer": None, "one_hot": None}


def test_columns_free_of_each_other_end_at_the_closed_form():
    """Every column goes to the end of its own interval, as the linear program says too."""
    for attack in (PGD(steps=40, restarts=1, loss="margin"), Coordinate(queries=20)):
        found = shares(attack, constraints(**FREE), integer=False)
        assert found.min() >= 1 - 1e-5
        assert found.max() <= 1 + 1e-5


def test_gradient_descent_reaches_the_linear_programs_worst_case():
    found = shares(PGD(steps=40, restarts=1, loss="margin"), constraints(**CONTINUOUS), integer=False)
    assert found.max() <= 1 + 1e-4
    assert found.min() >= 0.9999


@pytest.mark.slow
def test_search_and_gradient_together_come_near_the_integer_programs_worst_case():
    declared = constraints()
    gradient = shares(PGD(steps=40, restarts=2, loss="margin"), declared, integer=True)
    search = shares(Coordinate(queries=100), declared, integer=True)
    both = np.maximum(gradient, search)
    assert both.max() <= 1 + 1e-4
    assert both.mean() >= 0.99
    assert both.min() >= 0.9


def test_the_projection_is_the_nearest_point():
    """Reference: the quadratic program by scipy's SLSQP, over the same half-spaces and box, in the columns' units."""
    declared = constraints(**CONTINUOUS)
    threat, x = ThreatModel(epsilon=2.0, bounds=BOX, constraints=declared), rows(12)
    far = x + 3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    near = feasible.nearest(threat, x, far).double().numpy()
    low, high = (end.numpy() for end in feasible.reach(threat, x))
    for at in range(len(x)):
        point = far[at].double().numpy()
        width = np.minimum(np.maximum(*declared.reach()), 2.0)
        width[width == 0] = 1  # what is immutable
        limits = [
            {"type": "ineq", "fun": lambda z, r=relation: r.bound - np.array(r.coefficients) @ z}
            for relation in declared.relations
        ]
        done = minimize(
            lambda z, p=point, s=width: (((z - p) / s) ** 2).sum(), x[at].double().numpy(), method="SLSQP",
            constraints=limits, bounds=list(zip(low[at], high[at], strict=True)), options={"ftol": 1e-12},
        )  # fmt: skip
        assert done.success
        np.testing.assert_allclose(near[at], done.x, atol=2e-4)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["fgsm", "pgd", "apgd", "square", "coordinate", "fab"]),
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.05, 6.0),
    seed=st.integers(0, 2**31),
)
def test_what_counts_never_leaves_the_constraints(name, norm, epsilon, seed):
    """By arithmetic written out here, on the points that the ladder keeps; attacks that know nothing of tables too."""
    threat = ThreatModel(norm=norm, epsilon=epsilon, bounds=BOX, constraints=constraints())
    short = {"steps": 8, "queries": 40, "restarts": 1, "targets": 1}
    known = set(catalog.settings(catalog.build("attacks", name)))
    rungs = ladder({name: {key: value for key, value in short.items() if key in known}})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2)).eval().requires_grad_(False)
    x = rows(8, seed % 1000)
    broken = climb(model, x, model(x).argmax(1), threat, rungs, seed=seed, block=0)
    assert broken.outside == 0
    z, was = broken.x_adv.double().numpy(), x.double().numpy()
    age, income, debt, years, children, rooms, *home, score = z.T
    near = 1e-5
    assert (age == was[:, 0]).all()
    assert (years >= was[:, 3]).all()
    assert (score <= was[:, 9]).all()
    assert (abs(income - was[:, 1]) <= 1.5 + near).all()
    assert (abs(rooms - was[:, 5]) <= 2).all()
    assert (children == children.round()).all()
    assert (rooms == rooms.round()).all()
    assert np.isin(home, (0, 1)).all()
    assert (np.sum(home, axis=0) == 1).all()
    assert (debt <= income + near).all()
    assert (children - 2 * rooms <= 1).all()
    assert (1 - near <= debt + 0.5 * years + score).all()
    assert (debt + 0.5 * years + score <= 6 + near).all()
    size = np.abs(z - was).max(1) if norm == "linf" else np.linalg.norm(z - was, axis=1)
    assert (size <= epsilon * (1 + 1e-5) + near).all()
    assert (z >= BOX[0]).all()
    assert (z <= BOX[1]).all()


BROKEN = {
    "moves what is immutable": ("age", 1.0),
    "falls what only rises": ("years", -0.5),
    "breaks a budget": ("income", 1.6),
    "half a child": ("children", 0.5),
    "two homes": ("rent", None),
    "more debt than income": ("debt", 6.0),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_point_that_breaks_one_constraint_does_not_count(kind):
    """The mutants an attack could be: each moves one column as it may not, and the ladder counts none of it."""
    column, step = BROKEN[kind]
    threat, x = ThreatModel(epsilon=7.0, bounds=BOX, constraints=constraints()), rows(6)
    moved = x.clone()
    at = COLUMNS.index(column)
    moved[:, at] = 1 - moved[:, at] if step is None else moved[:, at] + step
    assert not feasible.holds(threat, x, moved).any()
    assert feasible.holds(threat, x, feasible.whole(threat, x, moved)).all()
    assert feasible.holds(threat, x, x).all()


def test_the_ladder_trusts_no_attack_and_no_repair(monkeypatch):
    """With the repair taken out, the same attack is outside in the verifier's eyes, and breaks nothing."""
    threat, x = ThreatModel(epsilon=2.0, bounds=BOX, constraints=constraints()), rows(10)
    model = plane(3)
    y = model(x).argmax(1)
    honest = climb(model, x, y, threat, ladder({"pgd": {"restarts": 1}}), seed=0, block=0)
    assert (honest.by != STANDS).sum() > 0
    monkeypatch.setattr(feasible, "whole", lambda _threat, _x, x_adv: x_adv)
    monkeypatch.setattr(feasible, "nearest", lambda threat, x, x_adv: x_adv.clamp(*threat.bounds))
    cheat = climb(model, x, y, threat, ladder({"pgd": {"restarts": 1}}), seed=0, block=0)
    assert cheat.outside > 0
    assert (cheat.by == STANDS).sum() >= (honest.by == STANDS).sum()


@pytest.mark.slow
def test_an_attack_without_projection_is_caught_by_the_exact_answer(monkeypatch):
    """Mutants of the projection: one that ignores relations overshoots or loses; the share of the program shows it."""
    declared = constraints(**CONTINUOUS)
    attack = PGD(steps=40, restarts=1, loss="margin")

    def careless(threat, x, x_adv):
        return x_adv.double().clamp(*feasible.reach(threat, x)).to(x.dtype)

    def timid(threat, x, x_adv):
        return torch.where(feasible.holds(threat, x, x_adv)[:, None], x_adv, x)

    for mutant in (careless, timid):
        with monkeypatch.context() as patched:
            patched.setattr(feasible, "nearest", mutant)
            assert shares(attack, declared, integer=False, planes=2).min() < 0.95
    monkeypatch.setattr(feasible, "coupled", lambda _threat: False)  # back to the sign of the gradient
    assert shares(attack, declared, integer=False).min() < 0.95


def test_evidence_for_one_declaration_never_answers_for_another():
    plain = ThreatModel(epsilon=0.5, bounds=BOX)
    first = replace(plain, constraints=constraints())
    other = replace(plain, constraints=constraints(immutable=["age", "rooms"], budgets={"income": 1.5}))
    assert len({plain.key, first.key, other.key}) == 3
    assert ThreatModel.from_json(first.to_json()) == first
    assert plain.key == "linf:0.5:[0,8]"
    assert "constraints" not in plain.to_json()
