"""The L0 ball inside the box: nearest point, a uniform draw and a random swap.

What is counted are features of the flattened input: a pixel of three channels that changes in all of them counts as
three. How far a counted feature moves is up to the box alone.

References: Croce and Hein. Sparse and Imperceivable Adversarial Attacks. ICCV 2019, section 3.2. arXiv:1909.05040.
    Croce, Andriushchenko, Singh, Flammarion and Hein. Sparse-RS: a Versatile Framework for Query-Efficient Sparse
    Black-Box Adversarial Attacks. AAAI 2022, algorithm 1. arXiv:2006.12834.
"""

from __future__ import annotations

import torch

__all__ = ["draw", "nearest", "swapped", "top"]


def top(scores: torch.Tensor, count: int) -> torch.Tensor:
    """(N, D) bool: the so many greatest of each row; all where there are not more."""
    chosen = scores.topk(min(count, scores.shape[1]), dim=1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, chosen, True)


def nearest(x: torch.Tensor, x_adv: torch.Tensor, count: int, bounds: tuple[float, float]) -> torch.Tensor:
    """The point of the box nearest to x_adv, in the Euclidean sense, that differs from x in so many features; exact.

    A feature that is kept costs what the box cuts off, one that goes back costs its whole way: kept are those that save
    most (eq. 8 of Croce and Hein). Rows of two dimensions.
    """
    boxed = x_adv.clamp(*bounds)
    saves = (x_adv - x).square() - (x_adv - boxed).square()
    return torch.where(top(saves, count), boxed, x)


def draw(x: torch.Tensor, count: int, bounds: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    """(N, D): so many features of each row, drawn at random, anywhere between the ends of the box."""
    where, value = (
        torch.rand(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device) for _ in "12"
    )
    return torch.where(top(where, count), bounds[0] + (bounds[1] - bounds[0]) * value, x)


def swapped(
    x: torch.Tensor, here: torch.Tensor, count: int, swaps: int, bounds: tuple[float, float], generator: torch.Generator
) -> torch.Tensor:
    """Some of the changed features go back, and as many as the ball then has room for go to a random end of the box.

    Args:
        x: (N, D).
        here: (N, D), which differs from x in at most ``count`` features.
        count: features that may differ.
        swaps: changed features of each row that go back, drawn at random.
        bounds: the box.
        generator: of all that is drawn.
    """
    back, into, end = (
        torch.rand(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device) for _ in "123"
    )
    stays = (here != x) & ~top(torch.where(here != x, back, -1.0), swaps)
    rank = torch.where(stays, -1.0, into).argsort(dim=1, descending=True).argsort(dim=1)
    enters = (rank < count - stays.sum(1, keepdim=True)) & ~stays
    ends = torch.where(end < 0.5, torch.full_like(x, bounds[0]), torch.full_like(x, bounds[1]))
    return torch.where(enters, ends, torch.where(stays, here, x))
