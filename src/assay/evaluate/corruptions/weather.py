"""Weather and light: snow, frost, fog, and too much of the sun."""

from __future__ import annotations

import numpy as np

from assay.evaluate.corruptions.blur import moved
from assay.evaluate.corruptions.field import Corruption, Images, clouds, side

__all__ = ["KINDS"]


def snow(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Flakes that fall along a line, ever more of them, over a picture that loses its colour and contrast."""
    flakes = rng.standard_normal((len(x), 1, *x.shape[2:]))
    angle = rng.uniform(np.pi / 4, 3 * np.pi / 4, (len(x), 1, 1))
    share, pale = ((1.9, 0.1), (1.6, 0.15), (1.3, 0.2), (1.0, 0.27), (0.7, 0.35))[severity]
    fallen = moved(np.clip(flakes - share, 0, 1), angle, 0.15 * side(x))
    white = np.maximum(x, x.mean(1, keepdims=True) * 0.5 + 0.5)
    found: Images = (1 - pale) * x + pale * white + 1.5 * fallen
    return found


def frost(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Ice with sharp ridges in front of the picture, ever thicker."""
    keep, ice = ((0.95, 0.15), (0.9, 0.22), (0.85, 0.3), (0.8, 0.37), (0.72, 0.45))[severity]
    crystals = 1 - np.abs(2 * clouds(rng, (len(x), *x.shape[2:]), 1.3) - 1)
    return keep * x + ice * crystals[:, None] ** 2


def fog(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Clouds added in front, the whole brought back below white."""
    thick = (0.2, 0.4, 0.65, 1.0, 1.5)[severity]
    brightest = x.max((1, 2, 3), keepdims=True)
    haze = thick * clouds(rng, (len(x), *x.shape[2:]), 2.0)[:, None]
    found: Images = (x + haze) * brightest / (brightest + thick)
    return found


def brightness(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """More light: the greatest channel of every pixel rises, hue and saturation stay."""
    value = x.max(1, keepdims=True)
    risen = np.clip(value + (0.07, 0.13, 0.2, 0.28, 0.38)[severity], 0, 1)
    found: Images = np.where(value > 0, x * risen / np.maximum(value, 1e-12), risen)
    return found


KINDS: dict[str, Corruption] = {"snow": snow, "frost": frost, "fog": fog, "brightness": brightness}
