"""Trigger inversion: is there a small trigger that leads every record to one class, though nobody named it?

For every class a mask and a pattern are sought, by gradient, that make the model answer that class whatever they are
laid on, the mask as small as that allows. Then the mask is cut to the ``area`` places where it is heaviest, and the
pattern there is sought again. The class whose trigger does best is chosen on one half of the records and measured on
the other, so that its success is that of a trigger which was fixed before. A clean model has small triggers too, of
less success: what is normal has to be known from models like this one before a bar is set.

Reference: Wang et al. Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks. IEEE S&P 2019;
    its anomaly index compares the sizes of the masks, which needs many classes; here success at one size is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from assay.config.evaluate import InversionConfig
from assay.errors import UnfitInput
from assay.estimate import Estimate, proportion

NAME = "inverted_trigger_success"
REACHED, GROW, SHRINK, EVERY = 0.95, 1.5, 1.5**1.5, 10

__all__ = ["NAME", "Inverted", "invert", "inverted"]


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


def inverted(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    bounds: tuple[float, float],
    config: InversionConfig,
    confidence: float = 0.95,
) -> tuple[Estimate, Inverted]:
    """Success of the best small trigger on records that it was not sought on, and the trigger.

    Args:
        model: in eval mode, parameters frozen; not modified.
        x: (N, ...) inside the bounds; the even rows are sought on, the odd ones measured on.
        y: (N,) the true classes.
        bounds: of the inputs.
        config: steps and area.
        confidence: of the interval.

    Raises:
        UnfitInput: fewer than two records, or one class.
    """
    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    if len(x) < 2 or classes < 2:
        raise UnfitInput("trigger inversion", f"{len(x)} records, {classes} classes", "two of each")
    seek, seen = (x[::2], y[::2]), (x[1::2], y[1::2])
    found = []
    for target in range(classes):
        others = seek[0][seek[1] != target]
        if len(others):
            made = invert(model, others, target, bounds, config)
            found.append((made.hits(model, others) / len(others), -target, made))
    best = max(found, key=lambda one: one[:2])[2]
    fresh = seen[0][seen[1] != best.target]
    return proportion(best.hits(model, fresh), len(fresh), confidence), best


def invert(
    model: nn.Module, x: torch.Tensor, target: int, bounds: tuple[float, float], config: InversionConfig
) -> Inverted:
    """The best trigger found for one class on records (N, ...) of others.

    The weight of the mask's size grows while 95 % of the records follow and shrinks while they do not, every ten steps.
    """
    shape = (1, 1, *x.shape[2:]) if x.dim() == 4 else (1, *x.shape[1:])
    mask = torch.full(shape, 0.0, device=x.device, requires_grad=True)
    pattern = torch.zeros((1, *x.shape[1:]), device=x.device, requires_grad=True)
    weight, answer = 1e-3, torch.full((len(x),), target, device=x.device)
    optimiser = torch.optim.Adam([mask, pattern], lr=0.1, betas=(0.5, 0.9))
    for step in range(config.steps):
        soft = torch.sigmoid(mask)
        logits = model((1 - soft) * x + soft * _inside(pattern, bounds))
        loss = functional.cross_entropy(logits, answer) + weight * soft.sum()
        _step(optimiser, loss)
        if step % EVERY == EVERY - 1:
            follow = float((logits.argmax(1) == target).float().mean())
            weight = weight * GROW if follow >= REACHED else weight / SHRINK
    count = max(1, int(config.area * mask.numel()))
    places = torch.zeros(mask.numel(), dtype=torch.bool, device=x.device)
    places[mask.detach().flatten().argsort(descending=True, stable=True)[:count]] = True
    places = places.reshape(shape)
    optimiser = torch.optim.Adam([pattern], lr=0.3)
    for _ in range(config.steps):
        stamped = torch.where(places, _inside(pattern, bounds), x)
        _step(optimiser, functional.cross_entropy(model(stamped), answer))
    return Inverted(target, places, _inside(pattern, bounds).detach())


def _inside(pattern: torch.Tensor, bounds: tuple[float, float]) -> torch.Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * torch.sigmoid(pattern)


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
