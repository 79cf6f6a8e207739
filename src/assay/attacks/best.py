"""Bookkeeping that iterative attacks share: the worst point seen so far, per example, and who still stands."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from assay.attacks.objective import Loss, fooled, objective
from assay.errors import UnfitInput

Ascended = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""A loss (M,) of logits (M, K), true classes (M,) and the rows (M,) they are of."""

__all__ = ["Ascended", "Best"]


class Best:
    """The worst point found so far for each example, beginning with x itself.

    With ``drop`` an example leaves the batch once it is misclassified: that decides robust accuracy, and no pass is
    spent on it again. A model that computes in few bits carries ``exact``, the same model in full precision; only a
    point that the exact model misclassifies too counts as misclassified.

    A model that answers differently every time is asked ``samples`` times at every point: losses and gradients are
    means (expectation over transformation, Athalye et al. ICML 2018, arXiv:1707.07397), and a point counts as
    misclassified where every answer is wrong, so that none does by luck.

    Attributes:
        x_adv: (N, ...), the points; a misclassified one goes before one that is not, then the higher loss. No point
            of lower loss than x is ever taken, but for a misclassified one when dropping.
        rows: (M,) int64, the examples still attacked; what `look` and `gradient` are given is of these rows.
    """

    def __init__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Loss, *, drop: bool = False, samples: int = 1
    ) -> None:
        self._model, self._y, self._name, self._drop, self._samples = model, y, loss, drop, samples
        self._exact: nn.Module | None = getattr(model, "exact", None)
        self.rows = torch.arange(len(x), device=x.device)
        with torch.no_grad():
            answers = self._answers(x)
            logits = answers.mean(0)
            if len(y) and not 0 <= int(y.min()) <= int(y.max()) < logits.shape[1]:
                raise UnfitInput("y", f"classes in [{y.min()}, {y.max()}]", f"in [0, {logits.shape[1]})")
            self.logits = logits
            self.x_adv, self._fooled = x.clone(), self._wrong(x, answers)
            self._loss = _finite(self._objective(answers))
        self._least = self._loss.clone()
        self.leave()

    def look(self, x_adv: torch.Tensor) -> torch.Tensor:
        """Take the points that are worse for the model; returns the logits (M, K), of several answers their mean."""
        with torch.no_grad():
            answers = self._answers(x_adv)
            self._keep(x_adv, answers, self._objective(answers))
        return answers.mean(0)

    def gradient(
        self, x_adv: torch.Tensor, ascended: Ascended | None = None, counts: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, and the loss (M,) with its gradient (M, ...) with respect to these points alone.

        Args:
            x_adv: (M, ...).
            ascended: what to take the gradient of, if not the loss by which points are kept.
            counts: (M,) bool, the points inside ball and box, which alone may be taken; all by default.
        """
        parts = [self._slope(x_adv, ascended) for _ in range(self._samples)]
        answers, found, kept, loss = (torch.stack(each) for each in zip(*parts, strict=True))
        self._keep(x_adv, answers, kept.mean(0), counts)
        return found.mean(0), _finite(loss.mean(0))

    def _slope(self, x_adv: torch.Tensor, ascended: Ascended | None) -> tuple[torch.Tensor, ...]:
        """Of one answer: logits, gradient, the loss by which points are kept, and the one that was followed."""
        y = self._y[self.rows]
        at = x_adv.detach().requires_grad_()
        with torch.enable_grad():
            logits = self._forward(at)
            kept = objective(self._name, logits, y)
            loss = kept if ascended is None else ascended(logits, y, self.rows)
            found = torch.autograd.grad(loss.sum(), at, allow_unused=True)[0] if loss.requires_grad else None
        if found is None:
            raise UnfitInput("model", "logits without a gradient", "a model that is differentiable in its input")
        return logits.detach(), torch.nan_to_num(found, nan=0.0), kept.detach(), loss.detach()

    def leave(self) -> torch.Tensor | None:
        """Let the misclassified leave; (M,) bool, who of the rows before stays, or None when all do."""
        stays = ~self._fooled[self.rows]
        if not self._drop or bool(stays.all()):
            return None
        self.rows = self.rows[stays]
        return stays

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(x)
        if logits.ndim != 2 or logits.shape[0] != len(x) or logits.shape[1] < 2:
            raise UnfitInput("model", f"logits of shape {tuple(logits.shape)}", f"({len(x)}, at least 2 classes)")
        return logits

    def _answers(self, x: torch.Tensor) -> torch.Tensor:
        """(samples, M, K)."""
        return torch.stack([self._forward(x) for _ in range(self._samples)])

    def _objective(self, answers: torch.Tensor) -> torch.Tensor:
        """(M,) the mean loss by which points are kept."""
        y = self._y[self.rows]
        return torch.stack([objective(self._name, logits, y) for logits in answers]).mean(0)

    def _wrong(self, x_adv: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """(M,) bool: misclassified in every answer, by the exact model too where there is one."""
        y = self._y[self.rows]
        wrong = torch.stack([fooled(logits, y) for logits in answers]).all(0)
        if self._exact is not None and bool(wrong.any()):
            wrong[wrong.clone()] = fooled(self._exact(x_adv[wrong]), y[wrong])
        return wrong

    def _keep(
        self, x_adv: torch.Tensor, answers: torch.Tensor, loss: torch.Tensor, counts: torch.Tensor | None = None
    ) -> None:
        with torch.no_grad():
            loss, wrong, rows = _finite(loss), self._wrong(x_adv, answers), self.rows
            worse = torch.where(wrong == self._fooled[rows], loss > self._loss[rows], wrong)
            worse &= (loss >= self._least[rows]) | (wrong & self._drop)
            if counts is not None:
                worse &= counts
            taken = rows[worse]
            self.x_adv[taken] = x_adv.detach()[worse]
            self._loss[taken], self._fooled[taken] = loss[worse], wrong[worse]


def _finite(loss: torch.Tensor) -> torch.Tensor:
    """The loss, infinite where it is no number: logits that are not finite are the worst a model can do."""
    return torch.nan_to_num(loss, nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
