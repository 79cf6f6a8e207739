"""Square: a random search that asks for logits only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from assay.attacks.best import Best
from assay.attacks.geometry import project, require_fit, size
from assay.attacks.objective import margin
from assay.errors import UnfitInput
from assay.threat import ThreatModel

SHRINKS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)

__all__ = ["Square"]


@dataclass(frozen=True, kw_only=True)
class Square:
    """Propose a change inside a window that shrinks as the search goes on; keep it when the margin grows.

    For ``linf`` every channel of the window goes to one face of the ball; for ``l2`` and ``l1`` the window takes over
    the perturbation of another and all that is left of the budget. The window of an image is a square; that of a table
    is as many features drawn at random. It needs no gradient, so a model that hides its gradient gains nothing.

    Fields:
        queries: proposals for each record; one forward pass each.
        share: of the features that the first windows cover.
        drop: let a record leave the batch once it is misclassified.

    Call with: as PGD.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; margin never below that of x.

    Raises:
        UnfitInput: x leaves the box, or the model is in training mode.

    Reference: Andriushchenko, Croce, Flammarion and Hein. Square Attack: a query-efficient black-box adversarial attack
        via random search. ECCV 2020. arXiv:1912.00049.
    """

    queries: int = 5000
    share: float = 0.8
    drop: bool = False

    gradient_free: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.queries < 1 or not 0 < self.share <= 1:
            got = f"queries {self.queries}, share {self.share}"
            raise UnfitInput("attacks.square", got, "at least 1 query and a share in (0, 1]")

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        require_fit(model, x, y, threat)
        x = x.detach()
        best = Best(model, x, y, "margin", drop=self.drop)
        if not len(best.rows):
            return best.x_adv
        propose = _linf if threat.norm == "linf" else _moved
        x, here = x[best.rows], _first(threat, x, generator)[best.rows]
        loss = margin(best.look(here), y[best.rows])
        for query in range(self.queries - 1):
            if (stays := best.leave()) is not None:
                x, here, loss = x[stays], here[stays], loss[stays]
            if not len(best.rows):
                break
            proposed = propose(threat, x, here, self._covered(query), generator)
            found = margin(best.look(proposed), y[best.rows])
            better = ~(found < loss)
            here, loss = torch.where(_wide(better, x), proposed, here), torch.where(better, found, loss)
        best.leave()
        return best.x_adv

    def _covered(self, query: int) -> float:
        """Share of the features in a window: halved at fixed queries of 10,000 (section 3.2), scaled to ours."""
        at = query / self.queries * 10_000
        return float(self.share / 2 ** sum(at > bound for bound in SHRINKS))


def _first(threat: ThreatModel, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Vertical stripes of either face for ``linf``; else bumps over the whole image."""
    if threat.norm == "linf":
        shape = (*x.shape[:2], 1, x.shape[3]) if x.ndim == 4 else x.shape
        return project(threat, x, x + threat.epsilon * _signs(shape, x, generator))
    if x.ndim != 4:
        delta = _signs(x.shape, x, generator)
    else:
        side = max(1, max(x.shape[2:]) // 5)
        grid = (-(-x.shape[2] // side), -(-x.shape[3] // side))
        tiles = _bump(side, side, x).repeat(grid)[: x.shape[2], : x.shape[3]]
        signs = _signs((*x.shape[:2], *grid), x, generator)
        delta = tiles * signs.repeat_interleave(side, 2).repeat_interleave(side, 3)[..., : x.shape[2], : x.shape[3]]
    return project(threat, x, x + threat.epsilon * delta / _wide(size(threat, delta).clamp_min(1e-12), x))


def _linf(
    threat: ThreatModel, x: torch.Tensor, here: torch.Tensor, share: float, generator: torch.Generator
) -> torch.Tensor:
    inside = _window(x, share, generator)
    shape = (*x.shape[:2], 1, 1) if x.ndim == 4 else x.shape
    return project(threat, x, torch.where(inside, x + threat.epsilon * _signs(shape, x, generator), here))


def _moved(
    threat: ThreatModel, x: torch.Tensor, here: torch.Tensor, share: float, generator: torch.Generator
) -> torch.Tensor:
    """Empty one window, and spend what that frees, with what the budget has left, on another (algorithm 3)."""
    delta = here - x
    taken, emptied = _window(x, share, generator), _window(x, share, generator)
    used, freed = size(threat, delta), size(threat, delta * (taken | emptied))
    power = 2 if threat.norm == "l2" else 1
    budget = ((threat.epsilon**power - used**power).clamp_min(0) + freed**power) ** (1 / power)
    inside = delta * taken
    channels = inside.flatten(2) if x.ndim == 4 else inside.flatten(1)
    length = torch.linalg.vector_norm(channels, dim=-1).clamp_min(1e-12)
    inside = inside / length.reshape(*length.shape, *(1 for _ in range(x.ndim - length.ndim)))
    inside = inside + _bumps(x, taken, generator)
    inside = inside * _wide(budget / size(threat, inside).clamp_min(1e-12), x)
    return project(threat, x, x + torch.where(taken, inside, torch.where(emptied, 0.0, delta)))


def _window(x: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """(N, 1, H, W) or (N, ...) bool: of each image a square at a random place; of a table random features."""
    if x.ndim != 4:
        return _uniform(x.shape, x, generator) < max(share, 1 / x[0].numel())
    inside = None
    for axis, extent in ((2, x.shape[2]), (3, x.shape[3])):
        side = min(max(1, round(math.sqrt(share * x.shape[2] * x.shape[3]))), extent)
        begin = (_uniform((len(x),), x, generator) * (extent - side + 1)).long().clamp_max(extent - side)
        place = torch.arange(extent, device=x.device)
        along = (place >= begin[:, None]) & (place < begin[:, None] + side)
        along = along.reshape(len(x), 1, *((extent, 1) if axis == 2 else (1, extent)))
        inside = along if inside is None else inside & along
    assert inside is not None
    return inside


def _bumps(x: torch.Tensor, taken: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """In each window a bump of length 1, of random sign for each channel; on a table random signs."""
    if x.ndim != 4:
        bump = _signs(x.shape, x, generator) * taken
        return bump / _wide(torch.linalg.vector_norm(bump.flatten(1), dim=1).clamp_min(1e-12), x)
    height, width = int(taken[0, 0].any(1).sum()), int(taken[0, 0].any(0).sum())
    bump = _bump(height, width, x)
    if float(_uniform((1,), x, generator)) < 0.5:
        bump = _bump(width, height, x).T
    signs = _signs((*x.shape[:2], 1), x, generator)
    filled = torch.zeros_like(x)
    filled[taken.expand_as(x)] = (bump.flatten() * signs).flatten()
    return filled


def _bump(height: int, width: int, x: torch.Tensor) -> torch.Tensor:
    """(height, width) of length 1: a hill above and a valley below, each falling from its middle (section 3.3)."""
    half = height // 2
    parts = [_hill(half, width), -_hill(height - half, width)] if half else [_hill(height, width)]
    bump: torch.Tensor = torch.cat(parts).to(x)
    bump /= torch.linalg.vector_norm(bump)
    return bump


def _hill(height: int, width: int) -> torch.Tensor:
    """Sums of 1 / (k + 1)^2 over the concentric rectangles that hold a place."""
    rows = torch.arange(height)[:, None]
    columns = torch.arange(width)[None]
    depth = torch.minimum(
        torch.minimum(rows, height - 1 - rows).expand(height, width),
        torch.minimum(columns, width - 1 - columns).expand(height, width),
    )
    deepest = int(depth.max())
    heights = torch.cumsum(torch.tensor([1.0 / (deepest + 1 - k) ** 2 for k in range(deepest + 1)]), 0)
    hill: torch.Tensor = heights[depth]
    return hill


def _signs(shape: tuple[int, ...] | torch.Size, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return (torch.randint(0, 2, tuple(shape), generator=generator, device=generator.device) * 2 - 1).to(x)


def _uniform(shape: tuple[int, ...] | torch.Size, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(tuple(shape), generator=generator, dtype=x.dtype, device=generator.device).to(x.device)


def _wide(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, *(1 for _ in x.shape[1:]))
