"""The fast copy of a network: the same answers up to rounding, and no say in what counts."""

from __future__ import annotations

import pytest
import torch
from evaluate_cases import digits, trained
from torch import nn

from assay.attacks.pgd import PGD
from assay.evaluate.fast import agreeing, exact, fast, pays
from assay.evaluate.ladder import climb, ladder, right
from assay.evaluate.outcomes import STANDS, WRONG
from assay.evaluate.strength import differentiable
from assay.threat import ThreatModel


class Residual(nn.Module):
    """Two convolutions with batch norms around a shortcut, and one norm that no convolution feeds alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.second, self.after = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.last, self.out = nn.BatchNorm2d(4), nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        at = torch.relu(self.norm(self.first(x)))
        return self.out(self.last(at + self.after(self.second(at))).flatten(1))


class Loops(nn.Module):
    """No trace: what it does depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        at = self.norm(self.conv(x))
        return self.out((at if bool(at.sum() > 1e9) else at.relu()).flatten(1))


def learned(model: nn.Module) -> nn.Module:
    """With statistics and scales as training leaves them, not as they begin."""
    rng = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=rng))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", [Residual, Loops])
def test_gives_the_same_logits_and_leaves_the_network_as_it_was(kind: type[nn.Module]) -> None:
    model = learned(kind())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quick, (x, _) = fast(model), digits()
    torch.testing.assert_close(quick(x[:70]), model(x[:70]), rtol=1e-4, atol=1e-4)
    assert quick(x[:0]).shape == (0, 10)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert exact(quick) is model
    assert exact(differentiable(quick)).model is model


def test_folds_the_norms_that_one_convolution_feeds() -> None:
    quick = fast(learned(Residual())).quick
    used = {str(node.target) for node in quick.graph.nodes if node.op == "call_module"}
    assert used == {"first", "second", "last", "out"}


def test_finds_what_the_network_itself_finds() -> None:
    model, (x, y) = trained("small_cnn", "cross_entropy", 4), (part[:128] for part in digits())
    assert pays(model)
    threat, rungs = ThreatModel(epsilon=0.1), ladder({"pgd": {"steps": 10, "restarts": 1}})
    slow, quick = (
        climb(differentiable(each), x, y, threat, rungs, seed=0, block=0).by for each in (model, fast(model))
    )
    assert (slow != quick).sum() <= 1


class Lies(nn.Module):
    """A fast network that is wrong about everything, beside an exact one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.exact = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -self.exact(x)


def test_nothing_counts_that_only_the_fast_network_gets_wrong() -> None:
    model, (x, y) = trained(), (part[:64] for part in digits())
    threat = ThreatModel(epsilon=1e-6)
    broken = climb(Lies(model).eval(), x, y, threat, ladder({"pgd": {"steps": 3, "restarts": 1}}), seed=0, block=0)
    assert torch.equal(broken.by == WRONG, ~right(model, x, y))
    assert (broken.by != WRONG).sum() == (broken.by == STANDS).sum()
    kept = PGD(steps=3, restarts=1, drop=True)(Lies(model).eval(), x, y, threat, generator=torch.Generator())
    assert torch.equal(model(kept).argmax(1) == y, right(model, x, y))


def test_a_copy_that_answers_otherwise_is_not_searched_with() -> None:
    """Its trace would be another network: here one that knows how many records there are."""
    model, (x, _) = trained("small_cnn", "cross_entropy", 4), digits()

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, at: torch.Tensor) -> torch.Tensor:
            return self.model(at) if len(at) > 128 else -self.model(at)

    quick = fast(Counts().eval())
    assert agreeing(quick, x[:200]) is quick.exact
    honest = fast(model)
    assert agreeing(honest, x[:70]) is honest
    assert agreeing(differentiable(honest), x[:70]) is not exact(differentiable(honest))
    assert agreeing(fast(model, bfloat16=True), x[:70]) is not model


def test_bfloat16_finds_only_what_float32_confirms() -> None:
    model, (x, y) = trained("small_cnn", "cross_entropy", 4), (part[:32] for part in digits())
    found = climb(
        fast(model, bfloat16=True), x, y, ThreatModel(epsilon=0.1), ladder({"pgd": {"steps": 3}}), seed=0, block=0
    )
    assert torch.equal(right(model, found.x_adv, y), found.by == STANDS)
