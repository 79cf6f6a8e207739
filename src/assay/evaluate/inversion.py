"""A small trigger that leads records of a model to one class, sought by gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

REACHED, GROW, SHRINK, EVERY = 0.95, 1.5, 1.5**1.5, 10

__all__ = ["Inverted", "invert"]


@dataclass(frozen=True)
class Inverted:
    """A trigger and the class it leads to.

    Fields:
        target: the class.
        places: (1, 1, H, W) or (1, D) bool, where it is laid.
        pattern: (1, C, H, W) or (1, D), what is laid there.
    """

    target: int
    places: torch.Tensor
    pattern: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Stamped copies of x (N, ...)."""
        return torch.where(self.places, self.pattern, x)

    def hits(self, model: nn.Module, x: torch.Tensor) -> int:
        """How many of x are called the target once stamped; an answer that is not finite counts."""
        with torch.no_grad():
            logits = model(self(x))
        return int(((logits.argmax(1) == self.target) | ~logits.isfinite().all(1)).sum())


def invert(
    model: nn.Module, x: torch.Tensor, target: int, bounds: tuple[float, float], *, steps: int, area: float
) -> Inverted:
    """The best trigger found for one class on records (N, ...) of others.

    The weight of the mask's size grows while 95 % of the records follow and shrinks while they do not, every ten steps.
    """
    shape = (1, 1, *x.shape[2:]) if x.dim() == 4 else (1, *x.shape[1:])
    mask = torch.full(shape, 0.0, device=x.device, requires_grad=True)
    pattern = torch.zeros((1, *x.shape[1:]), device=x.device, requires_grad=True)
    weight, answer = 1e-3, torch.full((len(x),), target, device=x.device)
    optimiser = torch.optim.Adam([mask, pattern], lr=0.1, betas=(0.5, 0.9))
    for step in range(steps):
        soft = torch.sigmoid(mask)
        logits = model((1 - soft) * x + soft * _inside(pattern, bounds))
        loss = functional.cross_entropy(logits, answer) + weight * soft.sum()
        _step(optimiser, loss)
        if step % EVERY == EVERY - 1:
            follow = float((logits.argmax(1) == target).float().mean())
            weight = weight * GROW if follow >= REACHED else weight / SHRINK
    count = max(1, int(area * mask.numel()))
    places = torch.zeros(mask.numel(), dtype=torch.bool, device=x.device)
    places[mask.detach().flatten().argsort(descending=True, stable=True)[:count]] = True
    places = places.reshape(shape)
    optimiser = torch.optim.Adam([pattern], lr=0.3)
    for _ in range(steps):
        stamped = torch.where(places, _inside(pattern, bounds), x)
        _step(optimiser, functional.cross_entropy(model(stamped), answer))
    return Inverted(target, places, _inside(pattern, bounds).detach())


def _inside(pattern: torch.Tensor, bounds: tuple[float, float]) -> torch.Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * torch.sigmoid(pattern)


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
