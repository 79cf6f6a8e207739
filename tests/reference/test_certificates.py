"""Bounds against exact answers: linear models, every point of small nets, what attacks and samples find."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from aspect_cases import looked, scene
from evaluate_cases import THREATS, trained
from torch import nn

from assay.attacks.pgd import PGD
from assay.errors import UnfitInput
from assay.evaluate import relaxation
from assay.evaluate.aspects.certificates import Certificates
from assay.evaluate.layers import Dense, layers_of
from assay.evaluate.lipschitz import lipschitz, pair_lipschitz
from assay.evaluate.outcomes import STANDS
from assay.evaluate.relaxation import least_margins, output_bounds
from assay.gate.rules.certified_at_least import CertifiedAtLeast
from assay.models.assemble import Classifier
from assay.models.spec import Preprocessing
from assay.threat import ThreatModel

SHAPE = (2, 6, 6)


def network(kind: str, seed: int = 0) -> nn.Module:
    """A small network with preprocessing in front; float64, weights as drawn."""
    bodies = {
        "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 4)),
        "one unit": lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 1), nn.ReLU(), nn.Linear(1, 4)),
        "dense": lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(72, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4)
        ),
        "convolutions": lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 6, 2, stride=2, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(6, 4),
        ),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = bodies[kind]()
    made = Classifier(body, Preprocessing(mean=(0.4, 0.5), scale=(0.3, 0.25)), 3)
    return made.double().eval().requires_grad_(False)


def points(count: int = 6) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def drawn(x: torch.Tensor, threat: ThreatModel, count: int, seed: int = 0) -> torch.Tensor:
    """Points of ball and box: most of them at its corners or on its surface."""
    rng = torch.Generator().manual_seed(seed)
    delta = torch.randn(count, *x.shape, generator=rng, dtype=x.dtype)
    if threat.norm == "linf":
        delta = delta.sign() * threat.epsilon
    elif threat.norm == "l2":
        delta = threat.epsilon * delta / delta.flatten(2).norm(dim=2)[..., None, None, None]
    else:
        one = torch.zeros_like(delta).flatten(2)
        place = torch.randint(one.shape[2], one.shape[:2], generator=rng)[..., None]
        delta = one.scatter(2, place, threat.epsilon * delta.flatten(2).gather(2, place).sign()).reshape(delta.shape)
    return (x + delta).clamp(*threat.bounds)


BALLS = [ThreatModel(norm="linf", epsilon=0.05), ThreatModel(norm="l2", epsilon=0.4), ThreatModel(norm="l1", epsilon=1)]


def test_layers_compute_what_the_network_computes_and_back_is_their_transpose() -> None:
    for kind in ("linear", "dense", "convolutions"):
        model, x = network(kind), points()
        h = x
        for layer in layers_of(model, SHAPE):
            if not hasattr(layer, "back"):
                h = h.clamp_min(0)
                continue
            rows = torch.randn(len(h), *layer.out, generator=torch.Generator().manual_seed(3), dtype=h.dtype)
            back, constant = layer.back(rows)
            out = layer(h)
            assert torch.allclose((rows * out).flatten(1).sum(1), (back * h).flatten(1).sum(1) + constant)
            h = out
        assert torch.allclose(h, model(x))


@pytest.mark.parametrize("threat", BALLS, ids=lambda threat: threat.key)
@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize("kind", ["linear", "dense", "convolutions"])
def test_bounds_contain_every_sampled_output(kind: str, method: Any, threat: ThreatModel) -> None:
    model, x = network(kind), points()
    layers = layers_of(model, SHAPE)
    low, high = output_bounds(layers, x, threat, method)
    seen = model(drawn(x, threat, 300).flatten(0, 1)).reshape(300, len(x), -1)
    assert (seen >= low - 1e-9).all()
    assert (seen <= high + 1e-9).all()
    y = model(x).argmax(1)
    margins = seen.gather(2, y.expand(300, -1)[..., None]) - seen
    assert (margins >= least_margins(layers, x, y, 4, threat, method) - 1e-9).all()


@pytest.mark.parametrize("threat", BALLS, ids=lambda threat: threat.key)
@pytest.mark.parametrize("kind", ["dense", "convolutions"])
def test_linear_relaxation_is_nowhere_worse_than_intervals_and_on_average_better(
    kind: str, threat: ThreatModel
) -> None:
    model, x = network(kind), points()
    layers = layers_of(model, SHAPE)
    y = model(x).argmax(1)
    crude, tight = (least_margins(layers, x, y, 4, threat, method) for method in ("ibp", "crown"))
    assert (tight >= crude - 1e-9).all()
    assert tight.mean() > crude.mean()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_of_a_linear_model_the_bound_is_the_worst_case(norm: Any, method: Any) -> None:
    """Reference: Hoelder, w.x + b - epsilon |w|_dual, with the box out of reach; for linf in the box, its corners."""
    model = network("linear")
    x = 0.4 + 0.2 * points()
    threat, y = ThreatModel(norm=norm, epsilon=0.05), model(x).argmax(1)
    weight = model.network[1].weight / model.scale.flatten().repeat_interleave(36)
    difference = weight[y][:, None] - weight[None]
    gap = model(x).gather(1, y[:, None]) - model(x)
    dual = {"linf": 1, "l2": 2, "l1": math.inf}[norm]
    exact = gap - 0.05 * difference.norm(p=dual, dim=2)
    found = least_margins(layers_of(model, SHAPE), x, y, 4, threat, method)
    if method == "crown":
        assert torch.allclose(found, exact, atol=1e-9)
    assert (found <= exact + 1e-9).all()
    corners = points().round()
    boxed = least_margins(layers_of(model, SHAPE), corners, y, 4, ThreatModel(epsilon=0.3))
    ends = [(corners + side).clamp(0, 1).flatten(1)[:, None] for side in (-0.3, 0.3)]
    moved = torch.where(difference > 0, *ends) - corners.flatten(1)[:, None]
    rest = model(corners).gather(1, y[:, None]) - model(corners) + (difference * moved).sum(2)
    assert torch.allclose(boxed, rest, atol=1e-9)


@pytest.mark.slow
def test_for_two_features_the_bound_lies_below_the_exact_worst_case_and_near_it() -> None:
    """Reference: the least margin on a grid of a thousand by a thousand points of the box."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 2)).double().requires_grad_(False)
    x, threat = torch.tensor([[0.3, 0.6], [0.7, 0.2]], dtype=torch.float64), ThreatModel(epsilon=0.1)
    y = model(x).argmax(1)
    steps = torch.linspace(-0.1, 0.1, 1000, dtype=torch.float64)
    grid = torch.cartesian_prod(steps, steps)
    for at, bound in enumerate(least_margins(layers_of(model, (2,)), x, y, 2, threat)):
        logits = model(x[at] + grid)
        exact = (logits[:, y[at]] - logits[:, 1 - y[at]]).min()
        gap = model(x[at : at + 1])[0].diff().abs().item()
        assert bound[1 - y[at]] <= exact
        assert exact - bound[1 - y[at]] <= 0.2 * gap


@pytest.mark.slow
@pytest.mark.parametrize("threat", BALLS[:2], ids=lambda threat: threat.key)
@pytest.mark.parametrize("kind", ["dense", "convolutions"])
def test_no_attack_goes_below_the_bound(kind: str, threat: ThreatModel) -> None:
    model, x = network(kind, seed=2), points(20)
    y = model(x).argmax(1)
    x_adv = PGD(restarts=2, steps=30, loss="margin")(model, x, y, threat, generator=torch.Generator().manual_seed(0))
    logits = model(x_adv)
    margins = logits.gather(1, y[:, None]) - logits
    assert (margins >= least_margins(layers_of(model, SHAPE), x, y, 4, threat) - 1e-9).all()


MUTANTS = {
    "the line above an unstable unit is not lifted": ("-low * over, 0.0)", "0.0 * low, 0.0)"),
    "a line that rises half as fast": ("high / (high - low).clamp_min(", "0.5 * high / (high - low).clamp_min("),
    "half of the ball": ("(x - threat.epsilon)", "(x - threat.epsilon / 2)"),
    "the wrong dual norm": ('"l2": 2.0', '"l2": math.inf'),
    "units that are off are on": ("torch.where(high <= 0, 0.0, high /", "torch.where(high <= 0, 1.0, high /"),
    "no constant of the layers": ("constant = constant + more", "constant = constant + 0 * more"),
    "intervals without their radius": ("(centre - radius, centre + radius))", "(centre, centre))"),
}


@pytest.mark.parametrize("fault", MUTANTS)
def test_samples_show_every_broken_bound(fault: str) -> None:
    """Mutants: the module with one line changed, on the nets and balls of the tests above."""
    source, (right, wrong) = Path(relaxation.__file__).read_text(), MUTANTS[fault]
    assert source.count(right) >= 1
    broken = ModuleType("broken")
    exec(source.replace(right, wrong), broken.__dict__)
    assert any(
        exceeded(broken, network(kind), threat, method)
        for kind in ("linear", "one unit", "dense", "convolutions")
        for threat in (*BALLS[:2], ThreatModel(epsilon=0.2))
        for method in ("ibp", "crown")
    )
    assert not exceeded(relaxation, network("dense"), BALLS[0], "crown")


def exceeded(bounds: ModuleType, model: nn.Module, threat: ThreatModel, method: str) -> bool:
    """Whether a point of the ball lies outside of the bounds: drawn, or a step towards each other class."""
    x = points()
    y = model(x).argmax(1)
    seen = torch.cat([drawn(x, threat, 50), *(stepped(model, x, y, target, threat)[None] for target in range(4))])
    logits = model(seen.flatten(0, 1)).reshape(len(seen), len(x), -1)
    margins = logits.gather(2, y.expand(len(seen), -1)[..., None]) - logits
    low, high = bounds.output_bounds(layers_of(model, SHAPE), x, threat, method)
    out = (logits < low - 1e-9).any() | (logits > high + 1e-9).any()
    return bool(out | (margins < bounds.least_margins(layers_of(model, SHAPE), x, y, 4, threat, method) - 1e-9).any())


def stepped(model: nn.Module, x: torch.Tensor, y: torch.Tensor, target: int, threat: ThreatModel) -> torch.Tensor:
    at = x.clone().requires_grad_()
    logits = model(at)
    gradient = torch.autograd.grad((logits[:, target] - logits.gather(1, y[:, None])[:, 0]).sum(), at)[0]
    length = gradient.flatten(1).norm(dim=1)[:, None, None, None].clamp_min(1e-12)
    step = gradient.sign() if threat.norm == "linf" else gradient / length
    return (x + threat.epsilon * step).clamp(*threat.bounds)


def test_cut_into_parts_that_fit_into_memory_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = network("convolutions"), points()
    whole = output_bounds(layers_of(model, SHAPE), x, BALLS[1])
    monkeypatch.setattr(relaxation, "CELLS", 3 * 6 * 144)
    for first, second in zip(whole, output_bounds(layers_of(model, SHAPE), x, BALLS[1]), strict=True):
        assert torch.allclose(first, second)


def test_the_lipschitz_bound_of_one_layer_is_its_greatest_singular_value() -> None:
    plain = nn.Linear(7, 5).double().requires_grad_(False)
    assert lipschitz(layers_of(plain, (7,))) == pytest.approx(float(torch.linalg.matrix_norm(plain.weight, 2)))


@pytest.mark.slow
def test_the_lipschitz_bound_of_many_layers_holds_at_every_point() -> None:
    """Reference: the Jacobian, whose greatest singular value is how fast the outputs part at that point."""
    for kind in ("dense", "convolutions"):
        model = network(kind)
        layers = layers_of(model, SHAPE)
        bound, pairs = lipschitz(layers), pair_lipschitz(layers, 4)
        for x in points(5):
            jacobian = torch.autograd.functional.jacobian(lambda z, model=model: model(z)[0], x[None])
            assert torch.linalg.matrix_norm(jacobian.reshape(4, -1), 2) <= bound
            for a, b in ((0, 1), (2, 3)):
                assert (jacobian[a] - jacobian[b]).norm() <= pairs[a, b] + 1e-9


@pytest.mark.slow
def test_of_a_large_layer_a_bound_that_is_never_less_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("dense", "convolutions"):
        layers = layers_of(network(kind), SHAPE)
        exact = lipschitz(layers)
        with monkeypatch.context() as patch:
            patch.setattr("assay.evaluate.lipschitz.MOST_CELLS", 0)
            assert exact <= lipschitz(layers) < 100 * exact


@pytest.mark.slow
def test_what_is_certified_stands_and_is_no_more_than_what_stands() -> None:
    found = Certificates(methods=("ibp", "crown", "lipschitz"))
    seen = scene(trained("mlp", "adversarial"), attacks=True)
    said = found(seen)
    for threat in THREATS:
        stands = int((seen.outcomes.by[threat.key] == STANDS).sum())
        certified = said.estimates[f"certified_accuracy/{threat.key}"].counts["successes"]
        assert certified <= stands
        half = said.estimates[f"certified_accuracy/{replace(threat, epsilon=threat.epsilon / 4).key}"]
        assert half.counts["successes"] > 90
    assert said.checks == {"certified_stand": "holds"}


@pytest.mark.parametrize(("fell", "said"), [(False, "holds"), (True, "misses")])
def test_a_certified_record_that_an_attack_broke_makes_the_measurement_unsound(fell: bool, said: str) -> None:
    seen = scene(trained("mlp"), records=40)
    fallen = {"linf:0.001": np.full(40, 1 if fell else STANDS)}
    outcomes = replace(seen.outcomes, blocks=(replace(seen.outcomes.blocks[0], by=fallen),))
    small = replace(seen.plan, threats=(ThreatModel(epsilon=0.001),))
    assert Certificates()(replace(seen, plan=small, outcomes=outcomes)).checks == {"certified_stand": said}


def test_other_layers_are_refused() -> None:
    for other in (nn.Sigmoid(), nn.Conv2d(2, 2, 3, groups=2), nn.Linear(5, 2)):
        with pytest.raises(UnfitInput, match="layer"):
            layers_of(nn.Sequential(other), SHAPE)
    assert isinstance(
        layers_of(nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(72, 2, bias=False))), SHAPE)[0], Dense
    )


def test_certificates_reach_the_evidence_and_their_rule(tmp_path: Path, workspace: Any) -> None:
    found = looked(workspace, tmp_path, aspects={"certificates": {}})
    certified = found.evidence.estimates["certified_accuracy/linf:0.05"]
    robust = found.evidence.estimates["robust_accuracy/linf:0.05"]
    assert certified == robust, "of a linear model both are exact"
    assert found.evidence.soundness["certified_stand"] == "holds"
    assert found.evidence.measured["aspects"]["certificates"]["lipschitz_bound"] > 0
    assert CertifiedAtLeast(threat="linf:0.05", value=0.01)(found.case).verdict == "holds"
    assert CertifiedAtLeast(threat="linf:0.05", value=0.99)(found.case).verdict == "misses"
    assert "Certified accuracy" in found.page
