"""TRADES: accuracy on the record as it is, and the same answer around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from assay.attacks.geometry import project, require_fit, steepest
from assay.errors import UnfitInput
from assay.threat import ThreatModel

START = 0.03
REACH = 2.5

__all__ = ["Trades"]


@dataclass(frozen=True, kw_only=True)
class Trades:
    """Cross-entropy of the input, plus ``beta`` times how far, at worst, its prediction moves inside the ball.

    The distance is the Kullback-Leibler divergence from the prediction at the attacked point to that at the input,
    and the attack ascends it without the label, so that robustness is not bought with wrong answers on clean inputs.

    Fields:
        beta: weight of the second term; 6 in the paper for CIFAR-10.
        steps: of the inner ascent; each costs one forward and one backward pass.

    Reference: Zhang et al. Theoretically Principled Trade-off between Robustness and Accuracy. ICML 2019, eq. 5.
        arXiv:1901.08573.
    """

    beta: float = 6.0
    steps: int = 7

    defends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.beta < float("inf"):
            raise UnfitInput(
                "train.trades", f"steps {self.steps}, beta {self.beta}", "at least 1 step and a finite beta"
            )

    def loss(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, *, threat: ThreatModel, generator: torch.Generator
    ) -> torch.Tensor:
        """The loss of each example, (N,)."""
        training = model.training
        model.eval()
        try:
            x_adv = self._furthest(model, x, y, threat, generator)
        finally:
            model.train(training)
        logits = model(x)
        moved = _divergence(model(x_adv), logits.log_softmax(1))
        return functional.cross_entropy(logits, y, reduction="none") + self.beta * moved

    def _furthest(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, generator: torch.Generator
    ) -> torch.Tensor:
        """A point near the one inside the ball whose prediction differs most; begins next to x, where it is flat."""
        require_fit(model, x, y, threat)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
        x_adv = project(threat, x, x + START * threat.epsilon * noise)
        with torch.no_grad():
            clean = model(x).log_softmax(1)
        for _ in range(self.steps):
            at = x_adv.detach().requires_grad_()
            with torch.enable_grad():
                gradient = torch.autograd.grad(_divergence(model(at), clean).sum(), at)[0]
            x_adv = project(threat, x, x_adv + REACH * threat.epsilon / self.steps * steepest(threat, gradient))
        return x_adv


def _divergence(logits: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """(N,) Kullback-Leibler divergence of the prediction from the clean one, given as log probabilities."""
    apart = functional.kl_div(logits.log_softmax(1), clean, reduction="none", log_target=True)
    return apart.sum(1)
