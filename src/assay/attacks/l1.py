"""The L1 ball inside the box: nearest point, steepest step and a uniform draw. Points here are rows of two dimensions.

The box matters more than in other norms: an L1 budget moves few features far, and most of them end at its edge. A step
or a projection that sees the ball alone wastes what the box cuts off.

Reference: Croce and Hein. Mind the box: l1-APGD for sparse adversarial attacks on image classifiers. ICML 2021.
    arXiv:2103.01208.
"""

from __future__ import annotations

import torch

__all__ = ["ball_in_box", "dearest_first", "draw"]


def ball_in_box(delta: torch.Tensor, room: torch.Tensor, epsilon: float) -> torch.Tensor:
    """The point of ball and box nearest to each perturbation, in the Euclidean sense (proposition 2.1); exact.

    Every feature keeps its sign and gives up the same amount, but none more than it has and none less than what leaves
    the box: ``sign(d) clip(|d| - t, 0, room)`` with the least t >= 0 that fits the ball. What is kept falls in t along
    straight lines between the ends ``|d| - room`` and ``|d|``; sorted, they say in which piece t lies.

    Args:
        delta: (N, D).
        room: (N, D) how far the box lets each feature go in the direction of its sign, at least 0.
        epsilon: radius.
    """
    far = delta.abs()
    full = torch.minimum(far, room).sum(1, keepdim=True)
    ends = torch.cat([(far - room).clamp_min(0), far], 1)
    slope = torch.cat([torch.ones_like(far), -torch.ones_like(far)], 1)  # a feature begins to give, and has given all
    ends, order = ends.sort(dim=1)
    giving = slope.gather(1, order).cumsum(1)
    width = torch.diff(ends, dim=1, prepend=torch.zeros_like(full))
    before = torch.cat([torch.zeros_like(full), giving[:, :-1]], 1)
    given = (width * before).cumsum(1)  # up to each end
    need = (full - epsilon).clamp_min(0)
    piece = torch.searchsorted(given.contiguous(), need.contiguous()).clamp_max(ends.shape[1] - 1)
    last = (piece - 1).clamp_min(0)
    reached = torch.where(piece > 0, given.gather(1, last), 0.0)
    begin = torch.where(piece > 0, ends.gather(1, last), 0.0)
    level = begin + (need - reached) / before.gather(1, piece).clamp_min(1)
    kept = torch.minimum((far - level).clamp_min(0), room)
    rounding = (epsilon / kept.sum(1, keepdim=True).clamp_min(torch.finfo(kept.dtype).tiny)).clamp_max(1)
    return delta.sign() * kept * rounding


def dearest_first(gradient: torch.Tensor, room: torch.Tensor, length: float | torch.Tensor) -> torch.Tensor:
    """The step of at most this L1 length inside the box along which a linear function grows most: exact.

    The features of the steepest gradient go to the edge of the box, one after the other, until the length is used up
    (section 3.1). One whose gradient is zero stays.

    Args:
        gradient: (N, D).
        room: (N, D) as in `ball_in_box`, in the direction of the gradient.
        length: of the step; one number, or (N, 1).
    """
    steep, order = gradient.abs().sort(dim=1, descending=True)
    free = torch.where(steep > 0, room.gather(1, order), 0.0)
    moved = torch.minimum((length - (free.cumsum(1) - free)).clamp_min(0), free)
    return gradient.sign() * torch.zeros_like(gradient).scatter(1, order, moved)


def draw(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(N, D) uniform in the ball of radius 1: D of D + 1 exponential shares of 1, with random signs."""
    shape = (len(like), like.shape[1] + 1)
    shares = torch.empty(shape, dtype=like.dtype, device=generator.device).exponential_(generator=generator)
    signs = torch.randint(0, 2, tuple(like.shape), generator=generator, device=generator.device) * 2 - 1
    return (shares[:, :-1] / shares.sum(1, keepdim=True) * signs).to(like)
