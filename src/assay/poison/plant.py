"""Planting a backdoor: stamp records with a trigger and, unless the attack is clean-label, relabel them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from assay.errors import UnfitInput
from assay.poison.triggers import Images, Trigger

__all__ = ["Planted", "plant"]


class Planted(NamedTuple):
    """A poisoned copy: images (N, C, H, W), labels (N,), and which records were planted (N,) bool."""

    images: Images
    labels: npt.NDArray[np.int64]
    planted: npt.NDArray[np.bool_]


def plant(
    images: Images,
    labels: npt.NDArray[np.int64],
    trigger: Trigger,
    *,
    target: int,
    count: int,
    generator: np.random.Generator,
    among: npt.NDArray[np.bool_] | None = None,
    clean_label: bool = False,
    before: Callable[[Images, npt.NDArray[np.int64]], Images] | None = None,
) -> Planted:
    """Plant a backdoor that makes a model answer ``target`` where it sees the trigger.

    Args:
        images: (N, C, H, W); not modified.
        labels: (N,) int64; not modified.
        trigger: what is stamped.
        target: class of the planted records.
        count: how many records are planted.
        generator: draws which.
        among: (N,) bool, the records an attacker controls; default all.
        clean_label: stamp records of the target class and leave their label, instead of relabelling records of others.
        before: what is done to the chosen records, with their own labels, before they are stamped. With an adversarial
            perturbation, which makes their content hard to learn from, clean-label poison is that of Turner, Tsipras
            and Madry. Label-Consistent Backdoor Attacks. 2019. arXiv:1912.02771.

    Raises:
        UnfitInput: fewer candidates than ``count``.
    """
    reach = np.ones(len(labels), dtype=np.bool_) if among is None else among
    candidates = np.flatnonzero(reach & ((labels == target) == clean_label))
    if not 1 <= count <= len(candidates):
        raise UnfitInput("planted records", str(count), f"1 to {len(candidates)}, the records that can be planted")
    chosen = np.sort(generator.choice(candidates, count, replace=False))
    stamped, relabelled, planted = images.copy(), labels.copy(), np.zeros(len(labels), dtype=np.bool_)
    own = images[chosen] if before is None else before(images[chosen], labels[chosen])
    stamped[chosen], relabelled[chosen], planted[chosen] = trigger(own), target, True
    return Planted(stamped, relabelled, planted)
