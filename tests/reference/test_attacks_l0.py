"""The L0 ball inside the box: its geometry by brute force over what changes, and the attacks that move in it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from attack_cases import Winding, frozen_network
from evaluate_cases import MASKS, Around, digits, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.attacks import jsma, l0, sparse_pgd, sparse_rs
from assay.attacks.geometry import project, random_start, size
from assay.attacks.jsma import JSMA
from assay.attacks.objective import fooled, margin
from assay.attacks.sparse_pgd import SparsePGD
from assay.attacks.sparse_rs import SparseRS
from assay.errors import UnfitInput
from assay.evaluate import soundness
from assay.evaluate.ladder import ladder, within
from assay.evaluate.measure import Plan, measure
from assay.evaluate.outcomes import STANDS
from assay.evaluate.selftest import self_test, worst_loss
from assay.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LADDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "jsma": ("jsma", {"steps": 40}),
    "sparse_pgd": ("sparse_pgd", {"restarts": 1}),
    "sparse_pgd margin": ("sparse_pgd", {"restarts": 1, "loss": "margin"}),
    "sparse_pgd projected": ("sparse_pgd", {"projected": True}),
    "sparse_rs": ("sparse_rs", {"queries": 1500}),
}


def supports(features: int, count: int) -> list[tuple[int, ...]]:
    return list(itertools.combinations(range(features), min(count, features)))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 7))
def test_the_projection_is_the_nearest_of_all_choices_of_features(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    x, far = np.clip(draw.uniform(-0.3, 1.3, 6), 0, 1), draw.uniform(-2, 3, 6)
    near = project(ThreatModel(norm="l0", epsilon=count), torch.tensor(x)[None], torch.tensor(far)[None])[0].numpy()
    assert (near != x).sum() <= count
    each = []
    for chosen in supports(6, count):
        point = x.copy()
        point[list(chosen)] = np.clip(far, 0, 1)[list(chosen)]
        each.append(((point - far) ** 2).sum())
    assert ((near - far) ** 2).sum() == pytest.approx(min(each))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 6))
def test_the_worst_case_of_a_plane_is_the_worst_over_all_choices_of_features(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    weight, x = draw.standard_normal(6), np.clip(draw.uniform(-0.3, 1.3, 6), 0, 1)
    each = []
    for chosen in supports(6, count):
        ends = [(0.0, 1.0) if at in chosen else (x[at],) for at in range(6)]
        each.append(min(np.array(point) @ weight for point in itertools.product(*ends)))
    made = worst_loss(weight, x[None], np.array([1.0]), ThreatModel(norm="l0", epsilon=count))[0]
    assert made == pytest.approx(x @ weight - min(each))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 9), swaps=st.integers(1, 9), width=st.integers(1, 8))
def test_starts_and_swaps_stay_in_ball_and_box(seed: int, count: int, swaps: int, width: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    threat = ThreatModel(norm="l0", epsilon=count, bounds=(-1.0, 2.0))
    x = 3 * torch.rand(5, width, generator=rng, dtype=torch.float64) - 1
    here = random_start(threat, x, rng)
    assert within(threat, x, here).all()
    assert ((here != x).sum(1) == min(count, width)).all()
    for _ in range(3):
        moved = l0.swapped(x, here, count, swaps, threat.bounds, rng)
        assert within(threat, x, moved).all()
        assert ((moved != here).sum(1) <= 2 * min(swaps, count) + count - (here != x).sum(1)).all()
        here = moved


def test_a_feature_more_than_the_ball_has_is_outside_it() -> None:
    threat, x = ThreatModel(norm="l0", epsilon=2), torch.full((1, 5), 0.5)
    assert within(threat, x, torch.tensor([[0.0, 1.0, 0.5, 0.5, 0.5]])).all()
    assert not within(threat, x, torch.tensor([[0.0, 1.0, 0.5, 0.5, 0.5 + 1e-6]])).any()
    assert size(threat, torch.tensor([[0.0, 1e-30, 0.0, 4.0, 0.0]])).tolist() == [2.0]


SLOW_SEARCH = [
    pytest.param(n, marks=pytest.mark.slow) if n in ("sparse_rs", "sparse_pgd projected") else n for n in LADDERS
]


@pytest.mark.parametrize("name", SLOW_SEARCH)
@pytest.mark.parametrize(("count", "bounds"), [(1, (0.0, 1.0)), (4, (-3.0, 5.0)), (12, (0.0, 1.0)), (40, (0.0, 1.0))])
def test_attacks_reach_the_exact_worst_case_of_a_plane(name: str, count: int, bounds: tuple[float, float]) -> None:
    attack, changes = LADDERS[name]
    assert self_test(ladder({attack: changes}), ThreatModel(norm="l0", epsilon=count, bounds=bounds), CPU)


ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)


def worst_of_one_feature(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, values: torch.Tensor) -> Any:
    """(N,) the greatest margin with one feature at one of the values."""
    worst = margin(model(x), y)
    for feature, value in itertools.product(range(x.shape[1]), values.tolist()):
        moved = x.clone()
        moved[:, feature] = value
        worst = torch.maximum(worst, margin(model(moved), y))
    return worst


@pytest.mark.parametrize("attack", [SparsePGD(steps=100, restarts=5), SparseRS(queries=100), JSMA()], ids=repr)
@pytest.mark.slow
def test_finds_what_brute_force_finds_on_two_features_of_which_one_changes(attack: Any) -> None:
    """A grid of 2,001 values of either feature for the ascent; the ends of the box for those that only go there."""
    rng = torch.Generator().manual_seed(5)
    model, threat = Winding().eval(), ThreatModel(norm="l0", epsilon=1)
    x = torch.rand(60, 2, generator=rng, dtype=torch.float64)
    y = model(x).argmax(1)
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64) if isinstance(attack, SparsePGD) else ENDS
    exact = worst_of_one_feature(model, x, y, grid)
    reached = margin(model(attack(model, x, y, threat, generator=rng)), y)
    missed = int(((reached <= 0) & (exact > 0.01)).sum())
    assert not ((reached > 0) & (worst_of_one_feature(model, x, y, torch.linspace(0, 1, 2001)) < -0.02)).any()
    assert int((exact > 0.01).sum()) >= 40
    assert missed <= {"SparsePGD": 2, "SparseRS": 0, "JSMA": 60}[type(attack).__name__]


def exact_of_one_pixel() -> torch.Tensor:
    """(100,) bool, whether some pixel alone breaks the frozen network; exact.

    Along one pixel every hidden unit is linear until it crosses zero, so each logit's lead is piecewise linear, and
    its greatest value lies at a crossing or at an end of the box.
    """
    model, x, y = frozen_network()
    first, x = model[0], x.double()
    model, weight = model.double(), first.weight.detach()
    hidden, broken = first(x).detach(), torch.zeros(len(x), dtype=torch.bool)
    for pixel in range(64):
        crossing = (x[:, [pixel]] - hidden / weight[:, pixel]).nan_to_num(0).clamp(0, 1)
        for value in torch.cat([crossing, torch.zeros(len(x), 1), torch.ones(len(x), 1)], 1).T:
            moved = x.clone()
            moved[:, pixel] = value
            broken |= margin(model(moved), y) > 0
    return broken


@pytest.mark.slow
def test_no_attack_finds_a_pixel_that_does_not_exist_and_sparse_pgd_finds_nearly_all_that_do() -> None:
    model, x, y = frozen_network()
    exact, found = exact_of_one_pixel(), {}
    assert 10 < int(exact.sum()) < 60
    for attack in (SparsePGD(restarts=5), SparseRS(queries=600), JSMA()):
        threat = ThreatModel(norm="l0", epsilon=1)
        broken = fooled(model(attack(model, x, y, threat, generator=torch.Generator().manual_seed(0))), y)
        assert not (broken & ~exact).any()
        found[type(attack).__name__] = int(broken.sum())
    assert found["SparsePGD"] >= int(exact.sum()) - 1
    assert found["SparseRS"] >= int(exact.sum()) - 1
    assert found["JSMA"] >= 0.6 * int(exact.sum())


def flipped(x: Any, here: Any, rises: Any, falls: Any, bounds: Any) -> Any:
    return CHANGED(x, here, -rises, -falls, bounds)


def least(x: Any, here: Any, rises: Any, falls: Any, bounds: Any) -> Any:
    tiny = torch.finfo(x.dtype).tiny
    return CHANGED(x, here, 1 / (rises + tiny), 1 / (falls + tiny), bounds)


CHANGED = jsma._changed
MUTANTS: dict[str, tuple[Any, str, Any, str]] = {
    "jsma goes the other way": (jsma, "_changed", flipped, "jsma"),
    "jsma takes the least salient": (jsma, "_changed", least, "jsma"),
    "jsma does not see the box": (
        jsma,
        "_changed",
        lambda x, here, rises, falls, bounds: CHANGED(x, here, rises, falls, bounds) * 3,
        "jsma",
    ),
    "sparse_pgd descends": (sparse_pgd, "VALUE_STEP", -0.25, "sparse_pgd"),
    "sparse_pgd has values that stand still": (sparse_pgd, "VALUE_STEP", 0.0, "sparse_pgd"),
    "sparse_pgd scores the other way": (sparse_pgd, "SCORE_STEP", -0.25, "sparse_pgd"),
    "sparse_pgd never scores": (sparse_pgd, "SCORE_STEP", 0.0, "sparse_pgd"),
    "sparse_pgd takes one too many": (
        sparse_pgd,
        "top",
        lambda scores, count: l0.top(scores, count + 1),
        "sparse_pgd",
    ),
    "sparse_rs keeps the worse": (sparse_rs, "margin", lambda logits, y: -margin(logits, y), "sparse_rs"),
    "sparse_rs never swaps": (sparse_rs, "swapped", lambda x, here, *rest: here, "sparse_rs"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n.startswith("sparse_rs") else n for n in MUTANTS]
)
def test_a_broken_attack_fails_the_self_test(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, part, broken, ladder_of = MUTANTS[name]
    attack, changes = LADDERS[ladder_of]
    threat = ThreatModel(norm="l0", epsilon=4)
    monkeypatch.setattr(place, part, broken)
    assert not self_test(ladder({attack: changes}), threat, CPU)


def test_one_step_is_too_few() -> None:
    threat = ThreatModel(norm="l0", epsilon=4)
    for name in ("jsma", "sparse_pgd"):
        assert not self_test(ladder({name: LADDERS[name][1] | {"steps": 1}}), threat, CPU)


def test_a_part_of_a_feature_and_constraints_are_refused() -> None:
    for epsilon in (0.5, 2.5):
        with pytest.raises(UnfitInput, match="whole number"):
            ThreatModel(norm="l0", epsilon=epsilon)
    with pytest.raises(UnfitInput, match="share in"):
        SparseRS(share=0.0)


L0 = ThreatModel(norm="l0", epsilon=3)
SPARSE = Plan(
    threats=(L0,),
    rungs=ladder({"jsma": {"steps": 3}, "sparse_pgd": {"restarts": 2}, "sparse_rs": {"queries": 300}}),
)


def measured(model: torch.nn.Module, records: int = 120) -> tuple[int, set[str], list[int]]:
    """How many stand, the checks that miss, and the curve."""
    x, y = (part[:records] for part in digits())
    found = measure(model, x, y, SPARSE)
    said = soundness.verdicts(found, y, SPARSE, 64)
    curve = [found.tallies[f"curve/{L0.key}/{at}"] for at in range(len(SPARSE.curve(L0, 64)))]
    return int((found.by[L0.key] == STANDS).sum()), {name for name, word in said.items() if word == "misses"}, curve


def test_the_curve_has_whole_radii_once_each_and_ends_at_the_whole_box() -> None:
    assert [at.epsilon for at in SPARSE.curve(L0, 64)] == [1.0, 3.0, 6.0, 64.0]
    assert [at.epsilon for at in SPARSE.curve(ThreatModel(norm="l0", epsilon=1), 64)] == [1.0, 2.0, 64.0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear", "mlp", "small_cnn"])
def test_an_honest_model_is_sound_in_l0(name: str) -> None:
    _, missed, curve = measured(trained(name))
    assert missed == set()
    assert curve == sorted(curve, reverse=True)
    assert curve[-1] == 0


HIDDEN = (
    "reversed gradient",
    "detached",
    "detached behind a decoy",
    "rounded logits",
    "saturating sigmoid",
    "k winners",
)


@pytest.mark.slow
@pytest.mark.parametrize("mask", HIDDEN)
def test_a_model_that_hides_its_gradient_is_unsound_in_l0(mask: str) -> None:
    assert "gradient_free_not_better" in measured(Around(trained("mlp"), MASKS[mask]).eval())[1]


@pytest.mark.slow
def test_what_stands_of_a_linear_model_of_ten_classes_is_the_exact_count_or_one_more() -> None:
    """A record falls where, for some class, the three greatest of slope times room close the gap to it."""
    model = trained("linear")
    x, y = (part[:120] for part in digits())
    flat = x.flatten(1).double()
    eye, zero = torch.eye(64).view(64, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    weight, logits = (model(eye) - model(zero)).double().T, model(x).double()
    falls = logits.argmax(1) != y
    for other in range(10):
        slope = weight[other] - weight[y]
        gain = (slope.abs() * torch.where(slope > 0, 1 - flat, flat)).topk(3, dim=1).values.sum(1)
        falls |= (gain > logits.gather(1, y[:, None]).squeeze(1) - logits[:, other] + 1e-5) & (y != other)
    assert int((~falls).sum()) <= measured(model)[0] <= int((~falls).sum()) + 1
