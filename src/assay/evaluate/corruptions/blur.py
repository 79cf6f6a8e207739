"""Blurs: out of focus, through frosted glass, moving, moving towards the camera."""

from __future__ import annotations

import numpy as np

from assay.evaluate.corruptions.field import Corruption, Images, blurred, disk, grid, sampled, side

STEPS = 9

__all__ = ["KINDS", "moved"]


def defocus_blur(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """The mean over a disk that grows; half a pixel is none."""
    return disk(x, 0.5 + (0.03, 0.05, 0.07, 0.095, 0.13)[severity] * side(x))


def glass_blur(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Every pixel from a random place nearby, ever further away, between two slight blurs."""
    reach = (0.02, 0.03, 0.04, 0.055, 0.075)[severity] * side(x)
    rows, columns = grid(x)
    away = rng.uniform(-1, 1, (2, len(x), *x.shape[2:])) * reach
    soft = 0.01 * side(x)
    return blurred(sampled(blurred(x, soft), rows + away[0], columns + away[1]), soft)


def motion_blur(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """The mean along a line in a random direction, ever longer."""
    angle = rng.uniform(-np.pi / 4, np.pi / 4, (len(x), 1, 1))
    return moved(x, angle, (0.1, 0.15, 0.2, 0.27, 0.35)[severity] * side(x))


def zoom_blur(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """The mean over magnifications about the middle, up to one that grows."""
    rows, columns = grid(x)
    middle = [(size - 1) / 2 for size in x.shape[2:]]
    zooms = np.linspace(1, (1.12, 1.18, 1.25, 1.33, 1.45)[severity], STEPS)
    shots = [sampled(x, middle[0] + (rows - middle[0]) / z, middle[1] + (columns - middle[1]) / z) for z in zooms]
    found: Images = np.mean(shots, axis=0)
    return found


def moved(x: Images, angle: Images, length: float) -> Images:
    """The mean along a line: angle (N, 1, 1) against the horizontal, length in pixels."""
    rows, columns = grid(x)
    places = np.linspace(-0.5, 0.5, STEPS) * length
    shots = [sampled(x, rows + at * np.sin(angle), columns + at * np.cos(angle)) for at in places]
    found: Images = np.mean(shots, axis=0)
    return found


KINDS: dict[str, Corruption] = {
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
}
