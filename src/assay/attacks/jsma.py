"""The saliency map attack: one feature after the other, each to the edge of the box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from assay.attacks.apgd_targeted import nearest_classes
from assay.attacks.best import Best
from assay.attacks.geometry import require_fit
from assay.errors import UnfitInput
from assay.threat import Norm, ThreatModel

__all__ = ["JSMA"]


@dataclass(frozen=True, kw_only=True)
class JSMA:
    """Jacobian-based saliency map attack: change the feature that raises one class and lowers the others most.

    A feature is salient in a direction that raises the logit of the target and lowers the sum of all others; its
    saliency is the product of the two slopes. The original moves every feature by the same amount; here each goes to
    the edge of the box, so that saliency is the geometric mean of the slopes times the way to that edge. The choice is
    of one feature at a time and of both directions, and ends where no feature is salient. On a linear model of two
    classes whose logits are each other's negatives it finds the worst case.

    Fields:
        steps: features changed at most, if the threat allows so many; two forward and two backward passes each.
        targets: wrong classes to aim at, those of the greatest logits at x.
        drop: let a record leave the batch once it is misclassified.

    Call with: as PGD, with ``l0``; the generator is not drawn from.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; margin never below that of x.

    Raises:
        UnfitInput: another norm, x leaves the box, or the model is in training mode or has no gradient.

    References: Papernot et al. The Limitations of Deep Learning in Adversarial Settings. EuroS&P 2016, eq. 8 and 9.
        arXiv:1511.07528. Wiyatno and Xu. Maximal Jacobian-based Saliency Map Attack. 2018. arXiv:1808.07945 (both
        directions, every target).
    """

    steps: int = 20
    targets: int = 3
    drop: bool = False

    norms: ClassVar[tuple[Norm, ...]] = ("l0",)

    def __post_init__(self) -> None:
        if min(self.steps, self.targets) < 1:
            raise UnfitInput("attacks.jsma", f"steps {self.steps}, targets {self.targets}", "both at least 1")

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        del generator
        require_fit(model, x, y, threat, self.norms)
        x = x.detach()
        best = Best(model, x, y, "margin", drop=self.drop)
        for target in nearest_classes(best.logits, y, self.targets).T:
            self._walk(best, x, threat, target)
        return best.x_adv

    def _walk(self, best: Best, x: torch.Tensor, threat: ThreatModel, target: torch.Tensor) -> None:
        """Towards one class; every misclassified point on the way counts."""

        def aim(logits: torch.Tensor, true: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return logits.gather(1, target[rows][:, None]).squeeze(1)

        def others(logits: torch.Tensor, true: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return logits.sum(1) - aim(logits, true, rows)

        x, here = x[best.rows], x[best.rows]
        for _ in range(min(self.steps, int(threat.epsilon), x[0].numel() if len(x) else 0)):
            if not len(best.rows):
                return
            rises, falls = (best.gradient(here, each)[0].flatten(1) for each in (aim, others))
            here = _changed(x.flatten(1), here.flatten(1), rises, falls, threat.bounds).view_as(x)
            best.look(here)
            if (stays := best.leave()) is not None:
                x, here = x[stays], here[stays]


def _changed(
    x: torch.Tensor, here: torch.Tensor, rises: torch.Tensor, falls: torch.Tensor, bounds: tuple[float, float]
) -> torch.Tensor:
    """The points with their most salient feature at the edge of the box; as they are where none is salient."""
    edge = torch.where(rises > 0, torch.full_like(x, bounds[1]), torch.full_like(x, bounds[0]))
    saliency = (-rises * falls).clamp_min(0).sqrt() * (edge - here).abs()
    saliency = torch.where(here == x, saliency, 0.0)
    most, at = saliency.max(dim=1, keepdim=True)
    return torch.where(most > 0, here.scatter(1, at, edge.gather(1, at)), here)
