"""A patch laid on pictures: where, how turned, how large, in which light, how sharp; differentiable in the patch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

TURN_DEGREES, SCALE, GAIN, OFFSET, BLURS = 25.0, (0.8, 1.2), (0.8, 1.2), 0.1, (0.0, 0.5, 1.0)
"""What is drawn in the physical preset: either way, of the side, of the light, of the box, standard deviations."""

__all__ = ["Placement", "laid", "placements"]


@dataclass(frozen=True)
class Placement:
    """Of each picture, (N,) each: the middle in pixels, the turn in radians, size, light, and which blur."""

    row: torch.Tensor
    column: torch.Tensor
    turn: torch.Tensor
    scale: torch.Tensor
    gain: torch.Tensor
    offset: torch.Tensor
    blur: torch.Tensor


def placements(count: int, shape: tuple[int, int], side: int, physical: bool, generator: torch.Generator) -> Placement:
    """Places drawn uniformly where the upright patch fits; in the physical preset with angle, scale, light and blur.

    Args:
        count: how many.
        shape: height and width of the pictures.
        side: of the patch, in pixels, at most that of the pictures.
        physical: draw the rest too; otherwise the patch is laid upright as it is.
        generator: on the CPU.
    """

    def drawn(low: float, high: float) -> torch.Tensor:
        values: torch.Tensor = low + (high - low) * torch.rand(count, generator=generator)
        return values if physical else torch.full_like(values, (low + high) / 2)

    corner = [torch.randint(0, extent - side + 1, (count,), generator=generator) for extent in shape]
    row, column = (each + (side - 1) / 2 for each in corner)
    turn = torch.deg2rad(drawn(-TURN_DEGREES, TURN_DEGREES))
    blur = torch.randint(0, len(BLURS), (count,), generator=generator)
    return Placement(
        row, column, turn, drawn(*SCALE), drawn(*GAIN), drawn(-OFFSET, OFFSET), blur if physical else 0 * blur
    )


def laid(x: torch.Tensor, patch: torch.Tensor, at: Placement, bounds: tuple[float, float]) -> torch.Tensor:
    """Copies of pictures with the patch on them, in the box; the gradient passes the edge of the box as if it were not.

    Args:
        x: (N, C, H, W).
        patch: (C, S, S) inside the bounds.
        at: where, for each picture.
        bounds: the box.
    """
    low, high = bounds
    side = patch.shape[1]
    u, v = _in_patch(x, at)
    covered = ((u.abs() < side / 2) & (v.abs() < side / 2))[:, None]
    seen = torch.stack([_blurred(patch, sigma) for sigma in BLURS])[at.blur.to(x.device)]
    places = torch.stack([v, u], 3) * 2 / side  # columns first; -1 and 1 are the outer edges of the patch
    seen = functional.grid_sample(seen, places.to(patch.dtype), padding_mode="border", align_corners=False)
    gain, offset = (each.to(x).reshape(-1, 1, 1, 1) for each in (at.gain, at.offset))
    lit = low + (high - low) * (gain * (seen - low) / (high - low) + offset)
    lit = lit + (lit.detach().clamp(low, high) - lit.detach())
    return torch.where(covered, lit, x)


def _in_patch(x: torch.Tensor, at: Placement) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, H, W) each: row and column of every pixel, from the middle of the patch, in its own pixels and direction."""
    rows = torch.arange(x.shape[2], device=x.device)[None, :, None]
    columns = torch.arange(x.shape[3], device=x.device)[None, None, :]
    row, column, turn, scale = (
        each.to(x.device, torch.float64).reshape(-1, 1, 1) for each in (at.row, at.column, at.turn, at.scale)
    )
    down, along, cos, sin = rows - row, columns - column, turn.cos(), turn.sin()
    return (cos * down + sin * along) / scale, (cos * along - sin * down) / scale


def _blurred(patch: torch.Tensor, sigma: float) -> torch.Tensor:
    """(C, S, S) through a Gaussian of this standard deviation in pixels; beyond the edge its last pixel."""
    if not sigma:
        return patch
    reach = min(2, patch.shape[1] - 1)
    kernel = torch.exp(-((torch.arange(-reach, reach + 1).to(patch)) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    wide = functional.pad(patch[:, None], (reach,) * 4, mode="replicate")
    found: torch.Tensor = functional.conv2d(wide, (kernel[:, None] * kernel[None])[None, None])
    return found[:, 0]
