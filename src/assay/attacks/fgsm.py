"""The fast gradient sign method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from assay.attacks.best import Best
from assay.attacks.geometry import ahead, project, require_fit
from assay.attacks.objective import Loss
from assay.threat import ThreatModel

__all__ = ["FGSM"]


@dataclass(frozen=True, kw_only=True)
class FGSM:
    """Fast gradient sign method: one step of size epsilon from x, in the threat model's norm.

    Exact for a linear model whose box is not active; elsewhere a quick lower bound on what PGD finds.

    Fields:
        loss: as in PGD.

    Call with: as PGD; the generator is not drawn from.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; loss never below that of x.

    Raises:
        UnfitInput: x leaves the box, or the model is in training mode or has no gradient.

    Reference: Goodfellow, Shlens and Szegedy. Explaining and Harnessing Adversarial Examples.
        ICLR 2015. arXiv:1412.6572.
    """

    loss: Loss = "ce"

    def __call__(
        self,
        model: nn.Module,
        x: torch.Tensor,
        y: torch.Tensor,
        threat: ThreatModel,
        *,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        del generator
        require_fit(model, x, y, threat)
        x = x.detach()
        best = Best(model, x, y, self.loss)
        best.look(project(threat, x, ahead(threat, x, best.gradient(x)[0], threat.epsilon)))
        return best.x_adv
