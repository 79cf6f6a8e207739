"""Carlini and Wagner's attack: the least L2 perturbation by gradient descent in a space without a box."""

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

BETA_1, BETA_2, TINY = 0.9, 0.999, 1e-8
INSIDE = 1 - 1e-6

__all__ = ["CarliniWagner"]


@dataclass(frozen=True, kw_only=True)
class CarliniWagner:
    """Minimise ``||x_adv - x||^2 + c max(-margin, 0)`` over w, where x_adv is a tanh of w, so that no box is needed.

    The weight c is searched for each record: raised where no point was misclassified, lowered where one was. It looks
    for the least perturbation, and what it finds counts where it lies in the ball; slow.

    Fields:
        steps: of Adam for each weight; one forward and one backward pass each.
        searches: weights tried, each from x anew.
        weight: first c, in units of the squared width of the box per unit of the logits.
        rate: of Adam, in w.
        drop: let a record leave the batch once it is misclassified inside the ball.

    Call with: as PGD, with ``l2``; the generator is not drawn from.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; margin never below that of x.

    Raises:
        UnfitInput: another norm, x leaves the box, or the model is in training mode or has no gradient.

    Reference: Carlini and Wagner. Towards Evaluating the Robustness of Neural Networks. S&P 2017, section VI A.
        arXiv:1608.04644.
    """

    steps: int = 100
    searches: int = 6
    weight: float = 0.1
    rate: float = 0.05
    drop: bool = False

    norms: ClassVar[tuple[Norm, ...]] = ("l2",)

    def __post_init__(self) -> None:
        if min(self.steps, self.searches) < 1 or not min(self.weight, self.rate) > 0:
            got = f"steps {self.steps}, searches {self.searches}, weight {self.weight}, rate {self.rate}"
            raise UnfitInput("attacks.carlini_wagner", got, "steps and searches at least 1, weight and rate above 0")

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        del generator
        require_fit(model, x, y, threat, self.norms)
        best = Best(model, x.detach(), y, "margin", drop=self.drop)
        return search_weights(best, threat, self._descend, self.weight, self.searches)

    def _descend(self, best: Best, search: Search, threat: ThreatModel) -> tuple[Search, torch.Tensor]:
        """Adam for one weight; what is misclassified is noted, and shorter ones go on being looked for."""
        middle, half = sum(threat.bounds) / 2, (threat.bounds[1] - threat.bounds[0]) / 2
        w = torch.atanh(((search.x - middle) / half).clamp(-INSIDE, INSIDE))
        first, second = torch.zeros_like(w), torch.zeros_like(w)
        for step in range(1, self.steps + 1):
            if not len(best.rows):
                break
            here = torch.tanh(w)
            at = middle + half * here
            inside = size(threat, at - search.x) <= threat.epsilon
            slope, margin = best.gradient(at, counts=inside)
            search = replace(search, found=search.found | (margin > 0))
            pull = torch.where(margin <= 0, search.weight, 0.0).reshape(-1, *(1 for _ in w.shape[1:]))
            gradient = (2 * (at - search.x) - pull * slope) * half * (1 - here.square())
            first = BETA_1 * first + (1 - BETA_1) * gradient
            second = BETA_2 * second + (1 - BETA_2) * gradient.square()
            w = w - self.rate * (first / (1 - BETA_1**step)) / ((second / (1 - BETA_2**step)).sqrt() + TINY)
            if (stays := best.leave()) is not None:
                search, w, first, second = search.of(stays), w[stays], first[stays], second[stays]
        return search, middle + half * torch.tanh(w)
