"""A global Lipschitz bound: no two inputs, however far apart, part the logits faster.

The product of the layers' spectral norms; ReLU parts nothing. A layer of moderate size is written out as a matrix and
its greatest singular value computed in float64; of a larger one sqrt(|W|_1 |W|_inf) is taken, which is never less.

Reference: Szegedy et al. Intriguing properties of neural networks. ICLR 2014, section 4.3. arXiv:1312.6199.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from assay.evaluate.layers import Layer, Relu, Scaling

MOST_CELLS = 2**22

__all__ = ["lipschitz", "pair_lipschitz"]


def lipschitz(layers: Sequence[Layer]) -> float:
    """A bound of |f(a) - f(b)|_2 / |a - b|_2 over all a, b."""
    return math.prod(_norm(layer) for layer in layers if not isinstance(layer, Relu))


def pair_lipschitz(layers: Sequence[Layer], classes: int) -> torch.Tensor:
    """(K, K): the same for the difference of two logits; the last layer has to be affine.

    Before it lies one bound for all; of it the difference of two rows counts.
    """
    before, last = lipschitz(layers[:-1]), layers[-1]
    assert not isinstance(last, Relu), "no network ends in one"
    rows, _ = last.back(torch.eye(classes, **_like(last)))
    flat = rows.flatten(1)
    return before * torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")


def _norm(layer: Layer) -> float:
    assert not isinstance(layer, Relu)
    into, out = math.prod(layer.into), math.prod(layer.out)
    if into * out <= MOST_CELLS:
        matrix, _ = layer.back(torch.eye(out, **_like(layer)).reshape(out, *layer.out))
        return float(torch.linalg.svdvals(matrix.flatten(1))[0]) * (1 + 1e-9)
    most = layer.spread(torch.ones(1, *layer.into, **_like(layer))).max()
    ones = torch.ones(1, *layer.out, **_like(layer))
    return math.sqrt(float(most) * float(_transposed(layer, ones).max()))


def _like(layer: Layer) -> dict[str, Any]:
    assert not isinstance(layer, Relu)
    return {"dtype": torch.float64, "device": (layer.scale if isinstance(layer, Scaling) else layer.weight).device}


def _transposed(layer: Layer, rows: torch.Tensor) -> torch.Tensor:
    """|W|^T rows."""
    assert not isinstance(layer, Relu)
    held = layer if isinstance(layer, Scaling) else replace(layer, weight=layer.weight.abs())
    return held.back(rows)[0]
