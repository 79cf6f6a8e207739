"""Attacks that look for the least perturbation, against the exact distance of a plane and of a box that cuts it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from assay.attacks import deepfool, ead, hopskipjump, weights
from assay.attacks.carlini_wagner import CarliniWagner
from assay.attacks.deepfool import DeepFool
from assay.attacks.ead import EAD, shrunk
from assay.attacks.fab import to_plane
from assay.attacks.hopskipjump import HopSkipJump
from assay.attacks.objective import fooled, margin
from assay.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("one_thread")

DUAL = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}
CASES: dict[str, tuple[Any, str, float]] = {
    "deepfool linf": (DeepFool(), "linf", 1.021),
    "deepfool l2": (DeepFool(), "l2", 1.021),
    "deepfool l1": (DeepFool(), "l1", 1.021),
    "ead": (EAD(), "l1", 1.05),
    "carlini_wagner": (CarliniWagner(steps=100, searches=8), "l2", 1.05),
    "hopskipjump l2": (HopSkipJump(steps=20, probes=60), "l2", 1.15),
    "hopskipjump linf": (HopSkipJump(steps=20, probes=60), "linf", 1.35),
}


def planes(classes: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A linear model and records far from the box."""
    rng = torch.Generator().manual_seed(2)
    model = nn.Linear(10, classes).double().eval().requires_grad_(False)
    model.weight.copy_(torch.randn(classes, 10, generator=rng, dtype=torch.float64))
    model.bias.copy_(torch.randn(classes, generator=rng, dtype=torch.float64))
    x = torch.randn(24, 10, generator=rng, dtype=torch.float64) / 4
    return model, x, model(x).argmax(1)


def distances(model: nn.Module, x: torch.Tensor, y: torch.Tensor, norm: str) -> torch.Tensor:
    """Reference: the least over the other classes of the gap over the dual norm of the difference of weights."""
    logits, weight = model(x), model.weight
    gap = logits.gather(1, y[:, None]) - logits
    far = gap / (weight[y][:, None] - weight[None]).norm(p=DUAL[norm], dim=2).clamp_min(1e-300)
    return far.scatter(1, y[:, None], torch.inf).amin(1)


def share_broken(attack: Any, norm: str, factor: float, classes: int = 4) -> float:
    """Of the records, each in a ball of so many times its own distance from the border."""
    model, x, y = planes(classes)
    hits = []
    for row, far in enumerate(distances(model, x, y, norm).tolist()):
        threat = ThreatModel(norm=norm, epsilon=factor * far, bounds=(-4.0, 4.0))
        one = (x[row : row + 1], y[row : row + 1])
        x_adv = attack(model, *one, threat, generator=torch.Generator().manual_seed(row))
        hits.append(bool(fooled(model(x_adv), one[1])))
    return sum(hits) / len(hits)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n[0] != "d" else []) for n in CASES])
def test_breaks_in_a_ball_little_larger_than_the_distance_and_in_none_smaller(name: str) -> None:
    attack, norm, factor = CASES[name]
    assert share_broken(attack, norm, factor) >= 0.9
    assert share_broken(attack, norm, 0.99) == 0


ALL_AT_ONCE: list[tuple[Any, str]] = [
    (CarliniWagner(steps=60, searches=6), "l2"),
    (HopSkipJump(steps=8, probes=40), "l2"),
    (EAD(steps=60, searches=6), "l1"),
]


@pytest.mark.parametrize(("attack", "norm"), ALL_AT_ONCE, ids=repr)
def test_breaks_most_in_a_ball_somewhat_larger_and_none_in_a_smaller_one(attack: Any, norm: str) -> None:
    """All records at once: the ball is a quarter larger than the distance of half of them."""
    model, x, y = planes(4)
    far = distances(model, x, y, norm)
    epsilon = 1.25 * float(far.median())
    threat = ThreatModel(norm=norm, epsilon=epsilon, bounds=(-4.0, 4.0))
    broken = fooled(model(attack(model, x, y, threat, generator=torch.Generator().manual_seed(0))), y)
    assert broken[far * 1.25 <= epsilon].double().mean() >= 0.9
    assert not broken[far > epsilon].any()


def plane_at_an_edge(norm: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A plane, records whose features all lie at an end of the box, and how far each is from the plane inside it."""
    rng = torch.Generator().manual_seed(0)
    model = nn.Linear(8, 2).double().eval().requires_grad_(False)
    weight = torch.randn(8, generator=rng, dtype=torch.float64)
    model.weight.copy_(torch.stack([weight, -weight]) / 2)
    x = torch.rand(40, 8, generator=rng, dtype=torch.float64).round()
    model.bias.copy_(torch.stack([-(x @ weight).median(), (x @ weight).median()]) / 2)
    y = model(x).argmax(1)
    step = to_plane(norm, x, torch.where(y[:, None] == 0, -weight, weight), margin(model(x), y), (0.0, 1.0))
    return model, x, y, torch.linalg.vector_norm(step, ord={"linf": torch.inf, "l2": 2, "l1": 1}[norm], dim=1)


def test_deepfool_takes_the_box_into_account() -> None:
    """A plane that ignores it is never reached."""
    for norm in DUAL:
        model, x, y, least = plane_at_an_edge(norm)
        epsilon = float(least.median())
        threat = ThreatModel(norm=norm, epsilon=epsilon)
        broken = fooled(model(DeepFool()(model, x, y, threat, generator=torch.Generator())), y)
        assert broken[1.03 * least <= epsilon].all()
        assert not broken[least > epsilon * 1.0001].any()


def half_way(norm: str, x: torch.Tensor, weight: torch.Tensor, gap: torch.Tensor, box: Any) -> torch.Tensor:
    return to_plane(norm, x, weight, gap, box) / 2


def share_in_the_box(attack: Any) -> float:
    """In L1, half of the features at the edge; of the records whose least step, that of `to_plane`, is a tenth less."""
    model, x, y, least = plane_at_an_edge("l1")
    threat = ThreatModel(norm="l1", epsilon=float(least.median()))
    broken = fooled(model(attack(model, x, y, threat, generator=torch.Generator())), y)
    assert not broken[least > threat.epsilon * 1.0001].any()
    return float(broken[1.1 * least <= threat.epsilon].double().mean())


ELASTIC_MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "never shrinks": (ead, "shrunk", lambda x, moved, less, box: moved.clamp(*box)),
    "grows": (ead, "shrunk", lambda x, moved, less, box: shrunk(x, moved, -less, box)),
    "walks away": (ead.Search, "begin", lambda x, weight: BEGIN(x, -weight)),
    "one weight": (weights.Search, "next", lambda search: search),
}
BEGIN = weights.Search.begin


def test_the_elastic_net_sees_the_box() -> None:
    assert share_in_the_box(EAD()) == 1


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n[0] in "ogw" else []) for n in ELASTIC_MUTANTS]
)
def test_a_broken_elastic_net_breaks_less(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, part, broken = ELASTIC_MUTANTS[name]
    monkeypatch.setattr(place, part, broken)
    assert share_in_the_box(EAD(weight=1e-3)) < 0.9


def test_shrinkage_is_the_least_of_a_square_and_the_way() -> None:
    """Reference: for each feature a grid of 20,001 values of the box."""
    rng = torch.Generator().manual_seed(1)
    x, moved = (torch.rand(1, 30, generator=rng, dtype=torch.float64) * scale for scale in (1.0, 1.6))
    found = shrunk(x, moved, 0.2, (0.0, 1.0))
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:, None]
    cost = ((grid - moved) ** 2) / 2 + 0.2 * (grid - x).abs()
    assert (found - grid[cost.argmin(0)].T).abs().max() < 1e-4
    assert (found == x).any()


MUTANTS: dict[str, tuple[Any, str, Any, Any]] = {
    "deepfool steps back": (deepfool, "to_plane", lambda *given: -to_plane(*given), DeepFool(steps=5)),
    "deepfool of noise": (
        deepfool,
        "to_plane",
        lambda norm, x, weight, gap, box: to_plane(norm, x, torch.randn_like(weight), gap, box),
        DeepFool(steps=5),
    ),
    "carlini_wagner never raises c": (
        weights.Search,
        "next",
        lambda search: search,
        CarliniWagner(steps=60, searches=8, weight=1e-6, rate=0.01),
    ),
    "hopskipjump walks away": (
        hopskipjump,
        "steepest",
        lambda threat, slope: -slope / slope.norm(dim=1, keepdim=True),
        HopSkipJump(steps=8, probes=40),
    ),
    "hopskipjump without its border": (
        hopskipjump,
        "_border",
        lambda model, x, here, y: here,
        HopSkipJump(steps=8, probes=40),
    ),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n[0] == "c" else []) for n in MUTANTS])
def test_a_broken_attack_breaks_less(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, part, broken, attack = MUTANTS[name]
    model, x, y = planes(4)
    far = distances(model, x, y, "l2")
    threat = ThreatModel(norm="l2", epsilon=1.25 * float(far.median()), bounds=(-4.0, 4.0))

    def share() -> float:
        found = fooled(model(attack(model, x, y, threat, generator=torch.Generator().manual_seed(0))), y)
        return float(found[far * 1.25 <= threat.epsilon].double().mean())

    whole = share()
    monkeypatch.setattr(place, part, broken)
    assert whole >= 0.9 > share()
