"""Bookkeeping that iterative attacks share: the worst point seen so far, per example."""

from __future__ import annotations

import torch
from torch import nn

from assay.attacks.objective import Loss, fooled, objective
from assay.errors import UnfitInput

__all__ = ["Best"]


class Best:
    """The worst point found so far for each example, beginning with x itself.

    Attributes:
        x_adv: (N, ...), the points; a misclassified one goes before one that is not, then the higher loss. No point
            of lower loss than x is ever taken.
    """

    def __init__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Loss) -> None:
        self._model, self._y, self._name = model, y, loss
        with torch.no_grad():
            logits = self._forward(x)
            if len(y) and not 0 <= int(y.min()) <= int(y.max()) < logits.shape[1]:
                raise UnfitInput("y", f"classes in [{y.min()}, {y.max()}]", f"in [0, {logits.shape[1]})")
            self.x_adv, self._fooled = x.clone(), fooled(logits, y)
            self._loss = _finite(objective(loss, logits, y))
        self._least = self._loss.clone()

    def look(self, x_adv: torch.Tensor) -> None:
        """Take the points that are worse for the model."""
        with torch.no_grad():
            logits = self._forward(x_adv)
            self._keep(x_adv, logits, _finite(objective(self._name, logits, self._y)))

    def gradient(self, x_adv: torch.Tensor) -> torch.Tensor:
        """The same, and the gradient of the loss with respect to these points alone."""
        at = x_adv.detach().requires_grad_()
        with torch.enable_grad():
            logits = self._forward(at)
            loss = objective(self._name, logits, self._y)
            found = torch.autograd.grad(loss.sum(), at, allow_unused=True)[0] if loss.requires_grad else None
        if found is None:
            raise UnfitInput("model", "logits without a gradient", "a model that is differentiable in its input")
        self._keep(x_adv, logits.detach(), _finite(loss.detach()))
        return torch.nan_to_num(found, nan=0.0)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(x)
        if logits.ndim != 2 or logits.shape[0] != len(x) or logits.shape[1] < 2:
            raise UnfitInput("model", f"logits of shape {tuple(logits.shape)}", f"({len(x)}, at least 2 classes)")
        return logits

    def _keep(self, x_adv: torch.Tensor, logits: torch.Tensor, loss: torch.Tensor) -> None:
        wrong = fooled(logits, self._y)
        worse = torch.where(wrong == self._fooled, loss > self._loss, wrong) & (loss >= self._least)
        self.x_adv = torch.where(worse.reshape(-1, *(1 for _ in x_adv.shape[1:])), x_adv.detach(), self.x_adv)
        self._loss, self._fooled = torch.where(worse, loss, self._loss), torch.where(worse, wrong, self._fooled)


def _finite(loss: torch.Tensor) -> torch.Tensor:
    """The loss, infinite where it is no number: logits that are not finite are the worst a model can do."""
    return torch.nan_to_num(loss, nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
