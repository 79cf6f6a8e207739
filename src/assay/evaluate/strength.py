"""What evaluate adds to the configured attacks: an aimed attack, and three that a masked model does not withstand.

A model can stop gradients without being robust: by huge logits, by rounding, by detaching a part of its graph. Then
one of these finds what the others could not, and what they find counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from assay.attacks.geometry import Attack, project
from assay.attacks.l0 import swapped
from assay.attacks.objective import margin
from assay.evaluate.fast import exact
from assay.threads import leave_if_asked
from assay.threat import ThreatModel

TARGETED, RESCALED, TRANSFER, SEARCH = "targeted", "rescaled", "transfer", "search"

__all__ = [
    "RESCALED",
    "SEARCH",
    "TARGETED",
    "TRANSFER",
    "RandomSearch",
    "Rescaled",
    "Targeted",
    "differentiable",
]


class _Around(nn.Module):
    """Something around a model; around its exact network too, where it has one beside it."""

    def __init__(self, model: nn.Module, *given: object) -> None:
        super().__init__()
        self.model = model
        if exact(model) is not model:
            self.exact = type(self)(exact(model), *given)


class _Differentiable(_Around):
    """The same logits; where the model gives no gradient at all, a gradient of zero.

    Every step of every attack asks it, so here an attack ends that nobody waits for any more.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        leave_if_asked()
        logits: torch.Tensor = self.model(x)
        if torch.is_grad_enabled() and x.requires_grad and not logits.requires_grad:
            return logits + 0 * x.flatten(1).sum(1, keepdim=True)
        return logits


class _Scaled(_Around):
    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__(model, factor)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x) * self.factor
        return logits


def differentiable(model: nn.Module) -> nn.Module:
    """A model that every gradient attack can run on; one without a gradient gets a gradient of zero."""
    return _Differentiable(model).eval()


class _Pair(_Around):
    """Logits (N, 2) of two classes of each record: the true one, then the one aimed at."""

    def __init__(self, model: nn.Module, classes: torch.Tensor) -> None:
        super().__init__(exact(model), classes)  # the exact network: a pair holds its rows, and lets none of them go
        self.classes = classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        return logits.gather(1, self.classes)


@dataclass(frozen=True, kw_only=True)
class Targeted:
    """An attack that aims at one wrong class after the other, those nearest to the true one first.

    Between two classes the loss is the difference of two logits: no third class draws the gradient aside and no scale
    of the logits bends it. On a linear model of many classes this alone finds the worst case.

    Fields:
        attack: for two classes.
        targets: wrong classes to aim at.
    """

    attack: Attack
    targets: int = 3

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The point, over all targets, at which the model is most wrong."""
        with torch.no_grad():
            others = model(x).nan_to_num(-torch.inf).scatter(1, y[:, None], -torch.inf)
        worst, most = x.clone(), _loss(model, x, y)
        for target in others.topk(min(self.targets, others.shape[1] - 1), dim=1).indices.T:
            pair = _Pair(model, torch.stack([y, target], 1)).eval()
            found = self.attack(pair, x, torch.zeros_like(y), threat, generator=generator)
            loss = _loss(model, found, y)
            worst = torch.where((loss > most).reshape(-1, *(1 for _ in x.shape[1:])), found, worst)
            most = torch.maximum(loss, most)
        return worst


@dataclass(frozen=True, kw_only=True)
class Rescaled:
    """An attack on the model with its logits divided by their median margin.

    Fields:
        attack: for the model itself.
    """

    attack: Attack

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples of the wrapped attack."""
        with torch.no_grad():
            typical = float(margin(model(x), y).abs().median())
        factor = 1 / typical if 0 < typical < float("inf") else 1.0
        return self.attack(_Scaled(model, factor).eval(), x, y, threat, generator=generator)


@dataclass(frozen=True, kw_only=True)
class RandomSearch:
    """A search that asks for logits only: propose a change of some features, keep it when the margin does not grow.

    For ``linf`` a proposal sets a share of the features to either face of the ball; for ``l0`` it swaps a share of the
    changed features for others; else it adds a step in a random direction over that share and projects. The share
    shrinks as the search goes on. A point is taken only if it breaks the model three times in a row, so that a model
    with noise is not broken by luck.

    Fields:
        queries: proposals for each record.
        records: only the first so many of a call are searched; the others come back as they are.

    Reference: after Andriushchenko et al. Square Attack. ECCV 2020. arXiv:1912.00049.
    """

    queries: int = 200
    records: int = 64

    gradient_free: ClassVar[bool] = True

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The points found; x where none was."""
        part, true = x[: self.records], y[: self.records]
        at = self._propose(part, part, threat, 1.0, generator)
        least = _loss(model, at, true)
        for query in range(self.queries):
            share = max(0.5 * (1 - query / self.queries) ** 2, 1 / part[0].numel())
            candidate = self._propose(part, at, threat, share, generator)
            loss = _loss(model, candidate, true)
            better = loss >= least
            at = torch.where(better.reshape(-1, *(1 for _ in x.shape[1:])), candidate, at)
            least = torch.where(better, loss, least)
        broken = torch.stack([_loss(model, at, true) >= 0 for _ in range(3)]).all(0)
        found = x.clone()
        found[: self.records][broken] = at[broken]
        return found

    @staticmethod
    def _propose(
        x: torch.Tensor, at: torch.Tensor, threat: ThreatModel, share: float, generator: torch.Generator
    ) -> torch.Tensor:
        if threat.norm == "l0":
            count = int(threat.epsilon)
            flat = x.flatten(1), at.flatten(1)
            return swapped(*flat, count, max(1, round(share * count)), threat.bounds, generator).view_as(x)
        chosen = torch.rand(x.shape, generator=generator, dtype=x.dtype).to(x.device) < share
        if threat.norm == "linf":
            sign = torch.randint(0, 2, x.shape, generator=generator).to(x) * 2 - 1
            return project(threat, x, torch.where(chosen, x + threat.epsilon * sign, at))
        step = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device) * chosen
        length = step.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, *(1 for _ in x.shape[1:]))
        return project(threat, x, at + threat.epsilon * step / length)


def _loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The margin, infinite where a logit is not finite."""
    with torch.no_grad():
        return torch.nan_to_num(margin(model(x), y), nan=torch.inf)
