"""Triggers drawn at random for given data: each trial of a self-test has one of its own."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from assay.poison.triggers import Images, Trigger
from assay.poison.triggers.blended import Blended
from assay.poison.triggers.columns import Columns
from assay.poison.triggers.patch import Corner, Patch
from assay.poison.triggers.stripe import Stripe
from assay.poison.triggers.warp import Warp

Kind = Literal["patch", "blended", "stripe", "warp", "columns"]
CORNERS: tuple[Corner, ...] = get_args(Corner)

__all__ = ["Kind", "draw", "fitting"]


def fitting(inputs: Images) -> tuple[Kind, ...]:
    """The kinds that are tried on inputs (N, C, H, W) or (N, D) where nobody says which."""
    return ("patch", "blended", "warp") if inputs.ndim == 4 else ("columns",)


def draw(kind: Kind, inputs: Images, generator: np.random.Generator) -> Trigger:
    """A trigger of a kind, its values in the range of the inputs.

    A patch is a ninth of the shorter side, at least two pixels, in a corner; a warp moves pixels by 1/28 of that side,
    0.7 at least; columns are two of the table, each set to the largest value that 99 % of its records do not exceed.

    Args:
        kind: of trigger.
        inputs: (N, C, H, W), or (N, D) for ``columns``.
        generator: draws corner, pattern, period, warp or columns.
    """
    seed, place = int(generator.integers(2**31)), int(generator.integers(2**31))
    if kind == "columns":
        chosen = generator.choice(inputs.shape[1], min(2, inputs.shape[1]), replace=False)
        values = np.quantile(inputs[:, chosen], 0.99, axis=0, method="lower")
        return Columns(columns=tuple(map(int, chosen)), values=tuple(map(float, values)))
    low, high, side = float(inputs.min()), float(inputs.max()), min(inputs.shape[2:])
    if kind == "patch":
        return Patch(size=max(2, round(side / 9)), value=high, corner=CORNERS[place % len(CORNERS)])
    if kind == "blended":
        return Blended(low=low, high=high, pattern_seed=seed)
    if kind == "stripe":
        return Stripe(period=(4, 5, 7)[place % 3], value=high)
    return Warp(strength=max(0.7, side / 28), seed=seed)
