"""DeepFool: from plane to plane towards the nearest class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from assay.attacks.apgd_targeted import nearest_classes
from assay.attacks.best import Best
from assay.attacks.fab import to_plane
from assay.attacks.geometry import project, require_fit, size
from assay.attacks.objective import aimed
from assay.errors import UnfitInput
from assay.threat import ThreatModel

__all__ = ["DeepFool"]


@dataclass(frozen=True, kw_only=True)
class DeepFool:
    """Take the border to every near class for a plane and step a little beyond the nearest, until the class changes.

    Exact for a linear model in one step, in every norm, the box included. Weaker than FAB, which it inspired: it
    follows one path and does not come back to shorten it.

    Fields:
        steps: at most; each costs one forward and one backward pass for every target.
        targets: wrong classes to look at, those of the greatest logits at x.
        overshoot: how far beyond the plane, as a share of the gap.
        drop: let a record leave the batch once it is misclassified inside the ball.

    Call with: as PGD.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; margin never below that of x.

    Raises:
        UnfitInput: x leaves the box, or the model is in training mode or has no gradient.

    Reference: Moosavi-Dezfooli, Fawzi and Frossard. DeepFool: a simple and accurate method to fool deep neural
        networks. CVPR 2016, algorithm 2. arXiv:1511.04599. The step inside the box is that of FAB.
    """

    steps: int = 30
    targets: int = 9
    overshoot: float = 0.02
    drop: bool = False

    def __post_init__(self) -> None:
        if min(self.steps, self.targets) < 1 or not 0 <= self.overshoot < 1:
            got = f"steps {self.steps}, targets {self.targets}, overshoot {self.overshoot}"
            raise UnfitInput("attacks.deepfool", got, "steps and targets at least 1, overshoot in [0, 1)")

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        del generator
        require_fit(model, x, y, threat)
        x = x.detach()
        best = Best(model, x, y, "margin", drop=self.drop)
        targets = nearest_classes(best.logits, y, self.targets)
        x, here = x[best.rows], x[best.rows]
        for _ in range(self.steps):
            if not len(best.rows):
                return best.x_adv
            there = self._nearer(best, x, here, threat, targets)
            if torch.equal(here, there):
                break
            here = there
            if (stays := best.leave()) is not None:
                x, here = x[stays], here[stays]
        if len(best.rows):
            best.look(project(threat, x, here))
            best.leave()
        return best.x_adv

    def _nearer(
        self, best: Best, x: torch.Tensor, here: torch.Tensor, threat: ThreatModel, targets: torch.Tensor
    ) -> torch.Tensor:
        """One step to the nearest of the planes; what another class has already stays where it is."""
        inside = size(threat, here - x) <= threat.epsilon
        least = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        step, rounding = torch.zeros_like(x), 100 * torch.finfo(x.dtype).eps
        for target in targets.T:

            def towards(
                logits: torch.Tensor, true: torch.Tensor, rows: torch.Tensor, target: torch.Tensor = target
            ) -> torch.Tensor:
                return aimed("margin", logits, true, target[rows])

            gradient, gap = best.gradient(here, towards, counts=inside)
            beyond = (1 + self.overshoot) * gap - rounding
            moved = to_plane(threat.norm, here, gradient, beyond, threat.bounds)
            reached = (gradient * moved).flatten(1).sum(1) >= -gap * (1 - 1e-4)  # else the box does not reach the plane
            far = torch.where(gap > 0, 0.0, torch.where(reached, size(threat, moved), torch.inf))
            nearer = far < least
            wide = nearer.reshape(-1, *(1 for _ in x.shape[1:]))
            step = torch.where(wide & (gap <= 0).reshape(wide.shape), moved, torch.where(wide, 0.0, step))
            least = torch.where(nearer, far, least)
        there: torch.Tensor = (here + step).clamp(*threat.bounds)
        return there
