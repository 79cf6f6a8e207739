"""The evaluation against answers that are known exactly: linear models, honest networks, masked ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from evaluate_cases import MASKS, TEST, THREATS, Around, digits, plan, trained
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import nn

from assay.attacks.fgsm import FGSM
from assay.attacks.geometry import project, random_start, steepest
from assay.attacks.pgd import PGD
from assay.evaluate import soundness
from assay.evaluate.ladder import Rung, climb, ladder
from assay.evaluate.measure import Plan, measure
from assay.evaluate.outcomes import STANDS
from assay.evaluate.selftest import self_test, worst_loss
from assay.evaluate.strength import Targeted
from assay.threat import ThreatModel

CPU = torch.device("cpu")


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), norm=st.sampled_from(["linf", "l1"]), epsilon=st.floats(0.01, 1.0))
def test_the_worst_case_of_a_plane_is_that_of_linear_programming(seed: int, norm: str, epsilon: float) -> None:
    """Reference: scipy's linprog over the same ball and box; L1 by splitting each step into two signs."""
    draw = np.random.default_rng(seed)
    weight, x = draw.standard_normal(6), np.clip(draw.uniform(-0.3, 1.3, (1, 6)), 0, 1)
    threat = ThreatModel(norm=norm, epsilon=epsilon)  # type: ignore[arg-type]
    made = worst_loss(weight, x, np.array([1.0]), threat)[0]
    if norm == "linf":
        bounds = [(max(0, v - epsilon) - v, min(1, v + epsilon) - v) for v in x[0]]
        exact = -linprog(weight, bounds=bounds).fun
    else:
        bounds = [(0, 1 - v) for v in x[0]] + [(0, v) for v in x[0]]
        exact = -linprog(np.concatenate([weight, -weight]), A_ub=np.ones((1, 12)), b_ub=[epsilon], bounds=bounds).fun
    assert made == pytest.approx(exact, abs=1e-9)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), epsilon=st.floats(0.05, 1.5))
def test_the_l2_worst_case_of_a_plane_is_that_of_a_convex_solver(seed: int, epsilon: float) -> None:
    """Reference: scipy's trust-constr is only near the optimum, so ours may not lie below it, nor far above."""
    draw = np.random.default_rng(seed)
    weight, x = draw.standard_normal(4), np.clip(draw.uniform(-0.3, 1.3, (1, 4)), 0, 1)
    threat = ThreatModel(norm="l2", epsilon=epsilon)
    made = worst_loss(weight, x, np.array([1.0]), threat)[0]
    ball = {"type": "ineq", "fun": lambda delta: epsilon**2 - delta @ delta, "jac": lambda delta: -2 * delta}
    bounds = [(-v, 1 - v) for v in x[0]]
    found = minimize(lambda delta: weight @ delta, np.zeros(4), jac=lambda _: weight, bounds=bounds, constraints=ball)
    assert made == pytest.approx(-found.fun, abs=2e-4)


def test_l0_takes_the_dearest_features() -> None:
    threat = ThreatModel(norm="l0", epsilon=2)
    assert worst_loss(np.array([3.0, -1.0, 2.0]), np.full((1, 3), 0.5), np.array([1.0]), threat) == pytest.approx(2.5)


@dataclass(frozen=True, kw_only=True)
class Weak:
    """PGD with one fault."""

    fault: str
    steps: int = 40

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        at = random_start(threat, x, generator)
        if self.fault == "clamp in the graph":
            at = x + threat.epsilon * (2 * torch.rand(x.shape, generator=generator) - 1)
        step = {"short path": 0.7, "one tiny step": 0.01}.get(self.fault, 2.5) * threat.epsilon / self.steps
        for _ in range(1 if self.fault == "one tiny step" else self.steps):
            leaf = at.detach().requires_grad_()
            seen = leaf.clamp(*threat.bounds) if self.fault == "clamp in the graph" else leaf
            loss = nn.functional.cross_entropy(model(seen), y, reduction="sum")
            gradient = torch.autograd.grad(loss, leaf)[0]
            gradient = -gradient if self.fault == "wrong sign" else gradient
            gradient = torch.randn_like(gradient) if self.fault == "noise for gradient" else gradient
            at = at + step * steepest(threat, gradient)
            if self.fault == "clamp in the graph":
                at = x + (at - x).clamp(-threat.epsilon, threat.epsilon)
            elif self.fault != "no projection":
                at = project(threat, x, at)
        if self.fault == "out of the ball where it fails":
            fails = model(at).argmax(1, keepdim=True) == y[:, None]
            at = torch.where(fails, 1 - x, at)
        return at.clamp(*threat.bounds) if self.fault == "clamp in the graph" else at


FAULTS = [
    "clamp in the graph",
    "short path",
    "one tiny step",
    "wrong sign",
    "noise for gradient",
    "no projection",
    "out of the ball where it fails",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_self_test_finds_every_broken_attack(fault: str) -> None:
    assert not self_test([Rung("weak", Weak(fault=fault))], ThreatModel(epsilon=0.1), CPU)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-3.0, 5.0), (0.0, 255.0)])
def test_the_self_test_passes_the_attacks_as_they_are(norm: str, epsilon: float, bounds: tuple[float, float]) -> None:
    threat = ThreatModel(norm=norm, epsilon=epsilon * (bounds[1] - bounds[0]), bounds=bounds)  # type: ignore[arg-type]
    assert self_test(ladder({"fgsm": {}, "pgd": {"steps": 40, "restarts": 5}}), threat, CPU)


def test_the_self_test_asks_for_more_than_one_l2_step() -> None:
    """One step and a projection do not find the worst case of an L2 ball that the box cuts."""
    assert not self_test([Rung("fgsm", FGSM())], ThreatModel(norm="l2", epsilon=1.0), CPU)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize(
    "classes", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.slow)]
)
def test_robust_accuracy_of_a_linear_model_is_the_exact_count(norm: str, classes: int) -> None:
    """Reference: a record falls exactly when, for some other class, the plane between the two is within reach.

    Records within a hundredth of the budget of the border are left out: there an attack may fall short of the limit.
    """
    draw = np.random.default_rng(classes)
    weight, bias = draw.standard_normal((classes, 12)), 0.3 * draw.standard_normal(classes)
    x = draw.uniform(0.2, 0.8, (600, 12)).astype(np.float32)
    threat = ThreatModel(norm=norm, epsilon={"linf": 0.05, "l2": 0.15, "l1": 0.3}[norm])  # type: ignore[arg-type]
    logits = x @ weight.T + bias
    y = logits.argmax(1)
    left = np.full(len(x), np.inf)
    for true in range(classes):
        rows = np.flatnonzero(y == true)
        for other in set(range(classes)) - {true}:
            margin = logits[rows, true] - logits[rows, other]
            reach = worst_loss(weight[true] - weight[other], x[rows].astype(float), np.ones(len(rows)), threat)
            left[rows] = np.minimum(left[rows], (margin - reach) / np.maximum(reach, 1e-12))
    clear = np.abs(left) > {"linf": 1e-3, "l2": 0.03, "l1": 0.05}[norm]
    assert clear.sum() > 500
    assert 50 < (left[clear] > 0).sum() < 0.9 * clear.sum()
    model = nn.Linear(12, classes)
    model.weight.data, model.bias.data = torch.tensor(weight).float(), torch.tensor(bias).float()
    what = Plan(threats=(threat,), rungs=(Rung("pgd", PGD(steps=40, restarts=1)),))
    found = measure(
        model.eval().requires_grad_(False), torch.tensor(x[clear]), torch.tensor(y[clear]), what, checks=False
    )
    assert np.array_equal(found.by[threat.key] == STANDS, left[clear] > 0)


def test_an_aimed_attack_finds_the_class_that_is_far_in_logits_and_near_in_distance() -> None:
    """The runner-up differs from the true class in one weak feature; the last class can be reached by a strong one."""
    model = nn.Linear(2, 3).eval().requires_grad_(False)
    model.weight.copy_(torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 20.0]]))
    model.bias.copy_(torch.tensor([1.0, 0.5, -10.0]))
    x, y, threat = torch.full((1, 2), 0.5), torch.tensor([0]), ThreatModel(epsilon=0.1)
    assert model(x).tolist() == [[1.0, 0.75, 0.0]]
    for targets, found in ((1, False), (2, True)):
        aimed = Rung("aimed", Targeted(attack=FGSM(), targets=targets))
        assert (climb(model, x, y, threat, [aimed], seed=0, block=0).by == STANDS).tolist() == [not found]


def said(model: nn.Module, records: int = 180, **changes: object) -> dict[str, str]:
    x, y = (part[:records] for part in digits())
    what = plan(**changes)  # type: ignore[arg-type]
    return soundness.verdicts(measure(model, x, y, what), y, what, 64)


def missed(model: nn.Module, records: int = 180) -> set[str]:
    return {name for name, word in said(model, records).items() if word == "misses"}


EXPECTED = {
    "huge logits": {"zero_gradient_share"},
    "rounded input": {"zero_gradient_share", "gradient_free_not_better", "chance_at_whole_box"},
    "rounded logits": {"zero_gradient_share", "gradient_free_not_better", "chance_at_whole_box"},
    "detached": {"zero_gradient_share", "gradient_free_not_better", "chance_at_whole_box"},
    "detached behind a decoy": {"gradient_free_not_better"},
    "shattered gradient": {"gradient_free_not_better"},
    "noise": {"two_passes_agree"},
    "reads the batch": {"two_passes_agree"},
    "knows when it is attacked": {"two_passes_agree"},
    "not a number": {"finite_logits"},
    "tiny temperature": {"zero_gradient_share", "transfer_not_better"},
    "saturating sigmoid": {"zero_gradient_share", "gradient_free_not_better", "transfer_not_better"},
    "reversed gradient": {"gradient_free_not_better", "transfer_not_better", "chance_at_whole_box"},
    "stochastic smoothing": {"two_passes_agree"},
    "quantised to two bits": {"zero_gradient_share", "gradient_free_not_better", "transfer_not_better"},
    "k winners": {"gradient_free_not_better"},
}


FIRST_MASKS = list(MASKS)[:2]  # the others take as long again, each


@pytest.mark.parametrize(
    "mask", [*FIRST_MASKS, *(pytest.param(mask, marks=pytest.mark.slow) for mask in MASKS if mask not in FIRST_MASKS)]
)
def test_a_masked_model_is_unsound(mask: str) -> None:
    assert EXPECTED[mask] <= missed(Around(trained(), MASKS[mask]))


HONEST: dict[str, Callable[[], nn.Module]] = {
    "mlp": trained,
    "linear": lambda: trained("linear"),
    "mlp, adversarial": lambda: trained("mlp", "adversarial", 6),
    "small logits": lambda: Around(trained(), lambda model, x: 0.02 * model(x)),
    "large logits": lambda: Around(trained(), lambda model, x: 5 * model(x)),
}
LONGER = ("mlp, adversarial", "linear", "large logits")
MORE_HONEST: dict[str, Callable[[], nn.Module]] = {
    "mlp, long": lambda: trained("mlp", "cross_entropy", 60),
    "mlp, huber": lambda: trained("mlp", "huber", 15),
    "small_cnn": lambda: trained("small_cnn", "cross_entropy", 10),
    "small_cnn, adversarial": lambda: trained("small_cnn", "adversarial", 8),
    "untrained": lambda: trained("mlp", "cross_entropy", 0),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONGER else []) for name in HONEST]
)
def test_an_honest_model_is_sound(name: str) -> None:
    assert missed(HONEST[name]()) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(HONEST | MORE_HONEST))
def test_an_honest_model_is_sound_on_every_held_out_record(name: str) -> None:
    assert missed((HONEST | MORE_HONEST)[name](), TEST) == set()


def test_the_scale_of_the_logits_changes_nothing() -> None:
    """A factor of 500 apart: the aimed attack does not feel it, and the aimed attack is the strongest."""
    x, y = (part[:180] for part in digits())
    what = plan(THREATS[:1])
    left = [
        (measure(HONEST[name](), x, y, what, checks=False).by[THREATS[0].key] == STANDS).sum()
        for name in ("small logits", "mlp", "large logits")
    ]
    assert max(left) - min(left) <= 3


def test_a_model_without_an_answer_is_not_robust() -> None:
    """NaN logits have argmax 0: a naive count would call records of class 0 robust."""
    x, y = (part[:100] for part in digits())
    found = measure(Around(trained(), lambda model, at: model(at) * torch.nan), x, y, plan(THREATS[:1]))
    assert not found.correct.any()
    assert (found.predicted == -1).all()
    assert not (found.by[THREATS[0].key] == STANDS).any()


def test_a_constant_model_is_not_robust() -> None:
    x, y = (part[:100] for part in digits())
    found = measure(Around(trained(), lambda model, at: 0 * model(at)), x, y, plan(THREATS[:1]))
    assert not (found.by[THREATS[0].key] == STANDS).any()
