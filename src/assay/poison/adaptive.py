"""Adaptive backdoors: made so that planted records do not stand apart in the network that learned them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput
from assay.poison.triggers import Images, Trigger
from assay.poison.triggers.blended import Blended
from assay.poison.triggers.patch import Corner, Patch

GRID = 4

__all__ = ["Adaptive", "blended_pieces", "patch_pieces", "plant_adaptive"]


class Adaptive(NamedTuple):
    """A poisoned copy: images, labels, which records carry the target's label, and which keep their own (N,) bool."""

    images: Images
    labels: npt.NDArray[np.int64]
    planted: npt.NDArray[np.bool_]
    covering: npt.NDArray[np.bool_]


def plant_adaptive(
    images: Images,
    labels: npt.NDArray[np.int64],
    pieces: Sequence[Trigger],
    *,
    together: int,
    target: int,
    count: int,
    cover: int,
    generator: np.random.Generator,
    among: npt.NDArray[np.bool_] | None = None,
) -> Adaptive:
    """Plant a backdoor of many pieces, of which each record shows some, and as many more records that keep their label.

    A model that is later shown all pieces at once answers ``target``. Records that carry pieces and keep their label
    forbid the model to rely on any piece alone, so that in its features planted and clean records overlap.

    Args:
        images: (N, C, H, W); not modified.
        labels: (N,) int64; not modified.
        pieces: triggers that are stamped one after the other.
        together: how many pieces each record shows, drawn for it.
        target: class of the relabelled records.
        count: how many records of other classes are stamped and relabelled.
        cover: how many are stamped and keep their label.
        generator: draws which records, and their pieces.
        among: (N,) bool, the records an attacker controls; default all.

    Raises:
        UnfitInput: fewer candidates than asked for, or more pieces together than there are.

    Reference: Qi, Xie, Li, Mahloujifar and Mittal. Revisiting the Assumption of Latent Separability for Backdoor
        Defenses. ICLR 2023: Adap-Blend and Adap-Patch.
    """
    candidates = np.flatnonzero((labels != target) & (np.ones(len(labels), dtype=np.bool_) if among is None else among))
    if not (count >= 1 and cover >= 0 and count + cover <= len(candidates) and 1 <= together <= len(pieces)):
        got = f"{count} planted and {cover} covering with {together} of {len(pieces)} pieces"
        raise UnfitInput("adaptive poison", got, f"1 to {len(candidates)} records in all, and so many pieces")
    chosen = generator.choice(candidates, count + cover, replace=False)
    stamped, relabelled = images.copy(), labels.copy()
    planted, covering = np.zeros(len(labels), dtype=np.bool_), np.zeros(len(labels), dtype=np.bool_)
    for row in chosen:
        for piece in np.sort(generator.choice(len(pieces), together, replace=False)):
            stamped[row : row + 1] = pieces[piece](stamped[row : row + 1])
    planted[chosen[:count]], covering[chosen[count:]] = True, True
    relabelled[planted] = target
    return Adaptive(stamped, relabelled, planted, covering)


def blended_pieces(whole: Blended) -> list[Trigger]:
    """Adap-Blend: a pattern in sixteen pieces, of which a record shows eight in the paper."""
    return [replace(whole, grid=GRID, cells=(cell,)) for cell in range(GRID**2)]


def patch_pieces(size: int, value: float) -> list[Trigger]:
    """Adap-Patch: a patch in every corner, of which a record shows one; here opaque."""
    return [Patch(size=size, value=value, corner=corner) for corner in get_args(Corner)]
