"""Poisoners: known attacks on training data, for the built-in example, the self-test of the filter, and tests.

Each takes features and labels, changes nothing in place, and draws only from the generator it is given. Free of torch.
"""

from __future__ import annotations

from assay.poison.flips import flip_labels
from assay.poison.plant import Planted, plant
from assay.poison.triggers import Blended, Corner, Patch, Sinusoidal, Stripe, Trigger
from assay.poison.warp import Warp

__all__ = ["Blended", "Corner", "Patch", "Planted", "Sinusoidal", "Stripe", "Trigger", "Warp", "flip_labels", "plant"]
