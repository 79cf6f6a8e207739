"""Poisoners: known attacks on training data, for the built-in example, the self-test of the filter, and tests.

Each takes features and labels, changes nothing in place, and draws only from the generator it is given. Free of torch.
"""

from __future__ import annotations

from assay.poison.adaptive import Adaptive, blended_pieces, patch_pieces, plant_adaptive
from assay.poison.flips import flip_labels, neighbourhood
from assay.poison.plant import Planted, plant
from assay.poison.triggers import Trigger
from assay.poison.triggers.blended import Blended
from assay.poison.triggers.columns import Columns
from assay.poison.triggers.patch import Corner, Patch
from assay.poison.triggers.sinusoidal import Sinusoidal
from assay.poison.triggers.stripe import Stripe
from assay.poison.triggers.warp import Warp

__all__ = [
    "Adaptive",
    "Blended",
    "Columns",
    "Corner",
    "Patch",
    "Planted",
    "Sinusoidal",
    "Stripe",
    "Trigger",
    "Warp",
    "blended_pieces",
    "flip_labels",
    "neighbourhood",
    "patch_pieces",
    "plant",
    "plant_adaptive",
]
