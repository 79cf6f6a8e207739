"""Label flips: poison that changes labels and no feature."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput

__all__ = ["flip_labels"]


def flip_labels(
    labels: npt.NDArray[np.int64],
    *,
    count: int,
    classes: int,
    generator: np.random.Generator,
    target: int | None = None,
    among: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Give ``count`` records another label.

    Args:
        labels: (N,) int64 in [0, classes); not modified.
        count: how many labels change.
        classes: number of classes.
        generator: draws which records, and which labels.
        target: the label given; None gives each record another class at random.
        among: (N,) bool, the records an attacker controls; default all.

    Returns:
        labels (N,) and which were flipped (N,) bool.

    Raises:
        UnfitInput: fewer candidates than ``count``, or a single class.
    """
    reach = np.ones(len(labels), dtype=np.bool_) if among is None else among
    candidates = np.flatnonzero(reach if target is None else reach & (labels != target))
    if not 1 <= count <= len(candidates) or classes < 2:
        raise UnfitInput("flipped labels", f"{count} of {classes} classes", f"1 to {len(candidates)} of 2 or more")
    chosen = generator.choice(candidates, count, replace=False)
    flipped, mask = labels.copy(), np.zeros(len(labels), dtype=np.bool_)
    shift = generator.integers(1, classes, count)
    flipped[chosen] = (labels[chosen] + shift) % classes if target is None else target
    mask[chosen] = True
    return flipped, mask
