"""What an honest model withstands as well as the attacks of the configuration, and a masked one does not.

A model can stop gradients without being robust: by huge logits, by rounding, by detaching a part of its graph. Then
one of these finds what the others could not, and what they find counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from assay.attacks.geometry import Attack, project
from assay.attacks.objective import margin
from assay.threat import ThreatModel

__all__ = ["RandomSearch", "Rescaled", "differentiable"]


class _Differentiable(nn.Module):
    """The same logits; where the model gives no gradient at all, a gradient of zero."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        if torch.is_grad_enabled() and x.requires_grad and not logits.requires_grad:
            return logits + 0 * x.flatten(1).sum(1, keepdim=True)
        return logits


class _Scaled(nn.Module):
    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x) * self.factor
        return logits


def differentiable(model: nn.Module) -> nn.Module:
    """A model that every gradient attack can run on; one without a gradient gets a gradient of zero."""
    return _Differentiable(model).eval()


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

    For ``linf`` a proposal sets a share of the features to either face of the ball; for other norms it adds a step in a
    random direction over that share and projects. The share shrinks as the search goes on. A point is taken only if it
    breaks the model three times in a row, so that a model with noise is not broken by luck.

    Fields:
        queries: proposals for each record.
        records: only the first so many of a call are searched; the others come back as they are.

    Reference: after Andriushchenko et al. Square Attack. ECCV 2020. arXiv:1912.00049.
    """

    queries: int = 200
    records: int = 64

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
