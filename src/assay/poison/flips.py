"""Label flips: poison that changes labels and no feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput

__all__ = ["flip_labels", "neighbourhood"]


def flip_labels(
    labels: npt.NDArray[np.int64],
    *,
    count: int,
    classes: int,
    generator: np.random.Generator,
    target: int | None = None,
    among: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Give ``count`` records another label: availability poison at random, targeted poison with a ``target``.

    Subpopulation poison is that ``among`` a `neighbourhood`.

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


def neighbourhood(
    features: npt.NDArray[np.floating[Any]], *, count: int, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """A subpopulation to poison: a random record and those nearest to it.

    Args:
        features: (N, ...) of any shape; distances are Euclidean.
        count: how many records it has.
        generator: draws the record in the middle.

    Returns:
        (N,) bool, ``count`` of them true.

    Raises:
        UnfitInput: more records than there are.

    Reference: Jagielski, Severi, Pousette Harger and Oprea. Subpopulation Data Poisoning Attacks. CCS 2021.
        arXiv:2006.14026, the variant that matches clusters.
    """
    if not 1 <= count <= len(features):
        raise UnfitInput("subpopulation", f"{count} records", f"1 to {len(features)}")
    rows = features.reshape(len(features), -1).astype(np.float64)
    distance = ((rows - rows[generator.integers(len(rows))]) ** 2).sum(axis=1)
    inside = np.zeros(len(rows), dtype=np.bool_)
    inside[np.argsort(distance, kind="stable")[:count]] = True
    return inside
