"""The elastic-net attack: the least perturbation in L1, by shrinkage of every step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn

from assay.attacks.best import Best
from assay.attacks.geometry import require_fit, size
from assay.attacks.weights import Search, search_weights
from assay.errors import UnfitInput
from assay.threat import Norm, ThreatModel

__all__ = ["EAD"]


@dataclass(frozen=True, kw_only=True)
class EAD:
    """Minimise ``||delta||_2^2 + beta ||delta||_1 + c max(-margin, 0)`` in the box, by accelerated shrinkage (FISTA).

    After every step along the smooth part each feature gives up a part of its perturbation, down to none, so that few
    features change. The weight c is searched for each record, as in Carlini and Wagner's attack, which is the case
    without L1. It looks for the least perturbation, and what it finds counts where it lies in the ball; slow.

    Fields:
        steps: for each weight; one forward and one backward pass each.
        searches: weights tried, each from x anew.
        beta: weight of L1, in units of the width of the box. The authors take 0.01, which spreads the perturbation as
            L2 does; with 1 the L1 part decides.
        weight: first c, in units of the squared width of the box per unit of the logits.
        rate: of the first step; it falls with the root of what is left to do.
        drop: let a record leave the batch once it is misclassified inside the ball.

    Call with: as PGD, with ``l1``; the generator is not drawn from.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; margin never below that of x.

    Raises:
        UnfitInput: another norm, x leaves the box, or the model is in training mode or has no gradient.

    Reference: Chen, Sharma, Zhang, Yi and Hsieh. EAD: Elastic-Net Attacks to Deep Neural Networks via Adversarial
        Examples. AAAI 2018, algorithm 1. arXiv:1709.04114.
    """

    steps: int = 100
    searches: int = 9
    beta: float = 1.0
    weight: float = 0.1
    rate: float = 0.02
    drop: bool = False

    norms: ClassVar[tuple[Norm, ...]] = ("l1",)

    def __post_init__(self) -> None:
        if min(self.steps, self.searches) < 1 or not (min(self.weight, self.rate) > 0 and self.beta >= 0):
            got = f"steps {self.steps}, searches {self.searches}, beta {self.beta}, weight {self.weight}"
            need = "steps and searches at least 1, weight and rate above 0, beta not below"
            raise UnfitInput("attacks.ead", f"{got}, rate {self.rate}", need)

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        del generator
        require_fit(model, x, y, threat, self.norms)
        best = Best(model, x.detach(), y, "margin", drop=self.drop)
        return search_weights(best, threat, self._descend, self.weight, self.searches)

    def _descend(self, best: Best, search: Search, threat: ThreatModel) -> tuple[Search, torch.Tensor]:
        """FISTA for one weight; what is misclassified is noted, and shorter ones go on being looked for."""
        beta = self.beta * (threat.bounds[1] - threat.bounds[0])
        here = at = search.x
        for step in range(self.steps):
            if not len(best.rows):
                break
            rate = self.rate * (1 - step / self.steps) ** 0.5
            slope, margin = best.gradient(at, counts=size(threat, at - search.x) <= threat.epsilon)
            search = replace(search, found=search.found | (margin > 0))
            pull = torch.where(margin <= 0, search.weight, 0.0).reshape(-1, *(1 for _ in at.shape[1:]))
            moved = at - rate * (2 * (at - search.x) - pull * slope)
            moved = shrunk(search.x, moved, rate * beta, threat.bounds)
            here, at = moved, (moved + step / (step + 3) * (moved - here)).clamp(*threat.bounds)
            if (stays := best.leave()) is not None:
                search, here, at = search.of(stays), here[stays], at[stays]
        return search, here


def shrunk(x: torch.Tensor, moved: torch.Tensor, less: float, bounds: tuple[float, float]) -> torch.Tensor:
    """Each feature nearer to x by so much, or at x, and in the box (eq. 5): the least of the L1 part plus the way."""
    delta = moved - x
    nearer: torch.Tensor = (x + delta.sign() * (delta.abs() - less).clamp_min(0)).clamp(*bounds)
    return nearer
