"""Sparse PGD: gradient ascent in which features change, and how far."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import nn

from assay.attacks.best import Best
from assay.attacks.geometry import require_fit
from assay.attacks.l0 import top
from assay.attacks.objective import Loss
from assay.errors import UnfitInput
from assay.threat import Norm, ThreatModel

VALUE_STEP, SCORE_STEP = 0.25, 0.25
PATIENCE = 3

__all__ = ["SparsePGD"]


@dataclass(frozen=True, kw_only=True)
class SparsePGD:
    """Ascend the value that each feature would have, and a score for being one of the few that may change.

    The perturbation is the values of the features with the greatest scores. Scores follow the gradient through a
    sigmoid, so that a feature that is not changed yet competes with those that are: by its slope times its way. Where
    the choice stands still, scores are drawn anew. On a linear model it finds the worst case.

    Fields:
        steps: gradient steps per restart; one forward and one backward pass each.
        restarts: independent random starts.
        loss: as in PGD.
        projected: move only the values of features that are chosen, as the gradient of the perturbation itself would;
            by default all of them, each in proportion to its score (the variant of unprojected gradients).
        drop: let a record leave the batch once it is misclassified.

    Call with: as PGD, with ``l0``.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; loss never below that of x.

    Raises:
        UnfitInput: another norm, x leaves the box, or the model is in training mode or has no gradient.

    Reference: Zhong, Huang and Liu. Towards Efficient Training and Evaluation of Robust Models against l0 Bounded
        Adversarial Perturbations. ICML 2024, algorithm 1. arXiv:2405.05075.
    """

    steps: int = 100
    restarts: int = 3
    loss: Loss = "margin"
    projected: bool = False
    drop: bool = False

    norms: ClassVar[tuple[Norm, ...]] = ("l0",)

    def __post_init__(self) -> None:
        if min(self.steps, self.restarts) < 1:
            raise UnfitInput("attacks.sparse_pgd", f"steps {self.steps}, restarts {self.restarts}", "both at least 1")

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        require_fit(model, x, y, threat, self.norms)
        x = x.detach()
        best = Best(model, x, y, self.loss, drop=self.drop)
        for _ in range(self.restarts):
            self._ascend(best, x, threat, generator)
        return best.x_adv

    def _ascend(self, best: Best, x: torch.Tensor, threat: ThreatModel, generator: torch.Generator) -> None:
        (low, high), flat, count = threat.bounds, x.flatten(1), int(threat.epsilon)
        start = low + (high - low) * _draw(torch.rand, flat, generator), _draw(torch.randn, flat, generator)
        still = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        at = _State(flat, *start, top(start[1], count), still).of(best.rows)
        for _ in range(self.steps):
            if not len(best.rows):
                return
            gradient = best.gradient(at.point().view(-1, *x.shape[1:]))[0].flatten(1)
            at = self._step(at, gradient, count, threat.bounds, generator)
            if (stays := best.leave()) is not None:
                at = at.of(stays)
        best.look(at.point().view(-1, *x.shape[1:]))
        best.leave()

    def _step(
        self,
        at: _State,
        gradient: torch.Tensor,
        count: int,
        bounds: tuple[float, float],
        generator: torch.Generator,
    ) -> _State:
        share = at.score.sigmoid()
        counts = at.chosen.to(share) if self.projected else share
        value = at.value + VALUE_STEP * (bounds[1] - bounds[0]) * (gradient * counts).sign()
        slope = gradient * (at.value - at.x) * share * (1 - share)
        slope = slope / slope.abs().amax(1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
        length = torch.linalg.vector_norm(slope, dim=1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
        score = at.score + SCORE_STEP * slope.shape[1] ** 0.5 * slope / length
        chosen = top(score, count)
        still = torch.where((chosen == at.chosen).all(1), at.still + 1, 0)
        stuck = still >= PATIENCE
        if bool(stuck.any()):
            score = torch.where(stuck[:, None], _draw(torch.randn, score, generator), score)
            chosen, still = torch.where(stuck[:, None], top(score, count), chosen), torch.where(stuck, 0, still)
        return _State(at.x, value.clamp(*bounds), score, chosen, still)


@dataclass(frozen=True)
class _State:
    """Of each record still attacked, flat: x, the value of every feature, its score, who is chosen, for how long."""

    x: torch.Tensor
    value: torch.Tensor
    score: torch.Tensor
    chosen: torch.Tensor
    still: torch.Tensor

    def of(self, rows: torch.Tensor) -> _State:
        return _State(*(getattr(self, field.name)[rows] for field in fields(self)))

    def point(self) -> torch.Tensor:
        return torch.where(self.chosen, self.value, self.x)


def _draw(kind: Any, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    drawn: torch.Tensor = kind(like.shape, generator=generator, dtype=like.dtype, device=generator.device)
    return drawn.to(like.device)
