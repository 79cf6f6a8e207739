"""Noise of the sensor: thermal, of few photons, of broken pixels."""

from __future__ import annotations

import numpy as np

from assay.evaluate.corruptions.field import Corruption, Images

__all__ = ["KINDS"]


def gaussian_noise(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Normal noise; its standard deviation grows."""
    return x + (0.04, 0.06, 0.08, 0.12, 0.18)[severity] * rng.standard_normal(x.shape)


def shot_noise(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Poisson noise of ever fewer photons at full brightness."""
    photons = (500, 250, 100, 60, 30)[severity]
    counted: Images = rng.poisson(x * photons) / photons
    return counted


def impulse_noise(x: Images, severity: int, rng: np.random.Generator) -> Images:
    """Pixels that say black or white, ever more of them; those broken before stay broken."""
    chance, white = rng.uniform(size=x.shape), rng.uniform(size=x.shape) < 0.5
    return np.where(chance < (0.01, 0.02, 0.04, 0.07, 0.12)[severity], white.astype(np.float64), x)


KINDS: dict[str, Corruption] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
}
