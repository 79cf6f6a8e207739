"""Bounds on what a network can say anywhere in a ball: intervals (IBP) and linear relaxation (CROWN).

Both are computed in float64 and hold for real numbers; what a float32 network computes differs by its rounding, for
which `assay.evaluate.aspects.certificates` leaves room.

References:
    Gowal et al. On the Effectiveness of Interval Bound Propagation. 2018. arXiv:1810.12715.
    Zhang et al. Efficient Neural Network Robustness Certification with General Activation Functions. NeurIPS 2018.
        arXiv:1811.00866.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch

from assay.errors import UnfitInput
from assay.evaluate.layers import Layer, Relu
from assay.threat import ThreatModel

CELLS = 2**24
"""Numbers that one backward pass may hold: 128 MiB."""

Bounds = tuple[torch.Tensor, torch.Tensor]

__all__ = ["least_margins", "output_bounds"]


def least_margins(
    layers: Sequence[Layer],
    x: torch.Tensor,
    y: torch.Tensor,
    classes: int,
    threat: ThreatModel,
    method: Literal["ibp", "crown"] = "crown",
) -> torch.Tensor:
    """How far the true logit stays above every other at least, anywhere in ball and box.

    Args:
        layers: of the network, see `layers_of`.
        x: (N, *shape) inside the box.
        y: (N,) int64 the true classes.
        classes: how many logits there are.
        threat: ``linf``, ``l2`` or ``l1``.
        method: ``crown`` is nowhere worse than ``ibp``: each bound is the better of the two.

    Returns:
        (N, classes) float64: a lower bound of logit y minus logit k; 0 for k = y.
    """
    x = x.double()
    margins = torch.eye(classes, dtype=x.dtype, device=x.device)
    wanted = margins[y][:, None, :] - margins[None]
    inner = _inner_bounds(layers, x, threat, method)
    low, high = _interval(layers, x, threat, inner)[-1]
    crude = (wanted.clamp_min(0) * low[:, None] + wanted.clamp_max(0) * high[:, None]).sum(2)
    if method == "ibp":
        return crude
    return torch.maximum(crude, _lower(layers, x, threat, inner, wanted))


def output_bounds(
    layers: Sequence[Layer], x: torch.Tensor, threat: ThreatModel, method: Literal["ibp", "crown"] = "crown"
) -> Bounds:
    """The least and the greatest value of every output of the last layer, each (N, *shape) in float64."""
    x = x.double()
    return _bounds(layers, x, threat, _inner_bounds(layers, x, threat, method), method)


def _inner_bounds(layers: Sequence[Layer], x: torch.Tensor, threat: ThreatModel, method: str) -> list[Bounds]:
    """The bounds in front of every ReLU, in order."""
    inner: list[Bounds] = []
    for at, layer in enumerate(layers):
        if isinstance(layer, Relu):
            inner.append(_bounds(layers[:at], x, threat, inner, method))
    return inner


def _bounds(
    layers: Sequence[Layer], x: torch.Tensor, threat: ThreatModel, inner: Sequence[Bounds], method: str
) -> Bounds:
    low, high = _interval(layers, x, threat, inner)[-1]
    if method == "ibp" or not any(isinstance(layer, Relu) for layer in layers):
        return low, high
    shape, ends = low.shape[1:], [low.flatten(1).clone(), high.flatten(1).clone()]
    size = ends[0].shape[1]
    step = max(1, CELLS // (len(x) * _widest(layers)))
    for start in range(0, size, step):
        part = torch.eye(size, dtype=x.dtype, device=x.device)[start : start + step].reshape(1, -1, *shape)
        rows, held = part.expand(len(x), *part.shape[1:]), slice(start, start + step)
        ends[0][:, held] = torch.maximum(ends[0][:, held], _lower(layers, x, threat, inner, rows))
        ends[1][:, held] = torch.minimum(ends[1][:, held], -_lower(layers, x, threat, inner, -rows))
    return ends[0].reshape(low.shape), ends[1].reshape(high.shape)


def _interval(layers: Sequence[Layer], x: torch.Tensor, threat: ThreatModel, inner: Sequence[Bounds]) -> list[Bounds]:
    """Interval bounds behind every layer; in front of a ReLU the given ones stand where there are any.

    Up to the first ReLU the map is affine, so its rows are bounded over ball and box themselves.
    """
    first = next((at for at, layer in enumerate(layers) if isinstance(layer, Relu)), len(layers))
    found = [_exact(layers[:first], x, threat)]
    seen = 0
    for layer in layers[first:]:
        low, high = found[-1]
        if isinstance(layer, Relu):
            low, high = inner[seen] if seen < len(inner) else (low, high)
            seen += 1
            found.append((low.clamp_min(0), high.clamp_min(0)))
            continue
        centre, radius = layer((low + high) / 2), layer.spread((high - low) / 2)
        found.append((centre - radius, centre + radius))
    return found


def _exact(layers: Sequence[Layer], x: torch.Tensor, threat: ThreatModel) -> Bounds:
    """Bounds of an affine map over ball and box: exact for ``linf``, for others where the box is out of reach."""
    low, high = _box(x, threat)
    centre, radius = (low + high) / 2, (high - low) / 2
    for layer in layers:
        if not isinstance(layer, Relu):
            centre, radius = layer(centre), layer.spread(radius)
    if threat.norm == "linf" or not layers:
        return centre - radius, centre + radius
    middle = x
    for layer in layers:
        middle = layer(middle) if not isinstance(layer, Relu) else middle
    reach = threat.epsilon * _row_norms(layers, x, threat).reshape(1, *middle.shape[1:])
    return torch.maximum(centre - radius, middle - reach), torch.minimum(centre + radius, middle + reach)


def _row_norms(layers: Sequence[Layer], x: torch.Tensor, threat: ThreatModel) -> torch.Tensor:
    """The dual norm of every row of an affine map."""
    shape = layers[-1].out  # type: ignore[union-attr]  # no ReLU here
    size = math.prod(shape)
    norms = []
    step = max(1, CELLS // _widest(layers))
    for start in range(0, size, step):
        rows = torch.eye(size, dtype=x.dtype, device=x.device)[start : start + step].reshape(-1, *shape)
        for layer in reversed(layers):
            rows, _ = layer.back(rows) if not isinstance(layer, Relu) else (rows, None)
        norms.append(_dual(rows.flatten(1), threat))
    return torch.cat(norms)


def _lower(
    layers: Sequence[Layer], x: torch.Tensor, threat: ThreatModel, inner: Sequence[Bounds], rows: torch.Tensor
) -> torch.Tensor:
    """(N, S): a lower bound of linear functions (N, S, *shape) of the output, by going back through every layer.

    An unstable ReLU is bounded from above by the line through its ends, from below by h or 0, whichever leaves less.
    """
    count, functions = rows.shape[:2]
    constant = torch.zeros(count, functions, dtype=x.dtype, device=x.device)
    behind = sum(isinstance(layer, Relu) for layer in layers)
    for layer in reversed(layers):
        if isinstance(layer, Relu):
            behind -= 1
            low, high = (end[:, None] for end in inner[behind])
            over = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, high / (high - low).clamp_min(1e-300)))
            lift = torch.where((low < 0) & (high > 0), -low * over, 0.0)
            under = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, (high > -low).to(x.dtype)))
            above, below = rows.clamp_min(0), rows.clamp_max(0)
            constant = constant + (below * lift).flatten(2).sum(2)
            rows = above * under + below * over
            continue
        back, more = layer.back(rows.flatten(0, 1))
        rows = back.reshape(count, functions, *back.shape[1:])
        constant = constant + more.reshape(count, functions)
    return constant + _least(rows.flatten(2), x.flatten(1), threat)


def _least(rows: torch.Tensor, x: torch.Tensor, threat: ThreatModel) -> torch.Tensor:
    """(N, S): the least value of linear functions (N, S, D) over ball and box, or a bound of it."""
    low, high = (end[:, None] for end in _box(x, threat))
    boxed = (rows.clamp_min(0) * low + rows.clamp_max(0) * high).sum(2)
    if threat.norm == "linf":
        return boxed
    return torch.maximum(boxed, (rows * x[:, None]).sum(2) - threat.epsilon * _dual(rows, threat))


def _dual(rows: torch.Tensor, threat: ThreatModel) -> torch.Tensor:
    order = {"linf": 1.0, "l2": 2.0, "l1": math.inf}
    if threat.norm not in order:
        raise UnfitInput("certificates: norm", threat.norm, "linf, l2 or l1")
    found: torch.Tensor = torch.linalg.vector_norm(rows, ord=order[threat.norm], dim=-1)
    return found


def _box(x: torch.Tensor, threat: ThreatModel) -> Bounds:
    """The least box around ball and box: no feature moves further than epsilon in any of the norms."""
    low, high = threat.bounds
    return (x - threat.epsilon).clamp_min(low), (x + threat.epsilon).clamp_max(high)


def _widest(layers: Sequence[Layer]) -> int:
    return max(
        (math.prod(shape) for it in layers if not isinstance(it, Relu) for shape in (it.into, it.out)), default=1
    )
