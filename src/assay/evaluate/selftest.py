"""The attacks tried on a model whose worst case is known exactly: two Gaussian clouds and a plane between them.

An attack that is broken, or too weak for the threat model, finds less than the exact count here and then its silence
about the real model means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from assay.attacks.geometry import Attack
from assay.attacks.transfer import Transfer
from assay.evaluate.ladder import Rung, climb
from assay.evaluate.outcomes import STANDS
from assay.threat import ThreatModel

RECORDS, FEATURES, SEED = 256, 24, 20130919
SLACK = {"linf": 0.01, "l2": 0.03, "l1": 0.05, "l0": 0.05}

__all__ = ["self_test", "worst_loss"]

Array = npt.NDArray[np.float64]


def worst_loss(weight: Array, x: Array, sign: Array, threat: ThreatModel) -> Array:
    """How much of ``sign * (x @ weight)`` the worst point in ball and box takes away; exact.

    Feature i pays ``|weight_i|`` per unit and has ``room_i`` to the box. Linf fills every room up to epsilon; L2 moves
    ``min(room, t |weight|)`` with the t that uses up epsilon (the Karush-Kuhn-Tucker point); L1 and L0 take the dearest
    features first.

    Args:
        weight: (D,).
        x: (N, D) inside the box.
        sign: (N,) of -1 and 1.
        threat: norm, radius and box.

    Returns:
        (N,) at least 0.
    """
    low, high = threat.bounds
    gain = np.abs(weight)
    room = np.where(sign[:, None] * weight > 0, x - low, high - x)
    if threat.norm == "linf":
        return np.minimum(room, threat.epsilon) @ gain
    if threat.norm == "l2":
        return np.minimum(room, _multiplier(gain, room, threat.epsilon)[:, None] * gain) @ gain
    if threat.norm == "l1":
        order = np.argsort(-gain)
        before = np.cumsum(room[:, order], axis=1) - room[:, order]
        return np.asarray(np.clip(threat.epsilon - before, 0, room[:, order]) @ gain[order])
    return np.asarray(np.sort(room * gain, axis=1)[:, ::-1][:, : int(threat.epsilon)].sum(1))


def self_test(
    rungs: Sequence[Rung], threat: ThreatModel, device: torch.device, slack: Mapping[str, float] = SLACK
) -> bool:
    """Whether the ladder breaks every record that the exact worst case breaks, and none that it does not.

    Records within ``slack`` of the border, a hundredth of the budget (Linf; three for L2), count neither way. Half of
    the features lie on the border of the box, where an attack that clips in the wrong place loses its gradient. A
    surrogate that was given knows the model that is measured, not this one: here one is trained instead.
    """
    low, high = threat.bounds
    draw = np.random.default_rng(SEED)
    weight = draw.standard_normal(FEATURES)
    unit = np.clip(draw.uniform(-0.5, 1.5, (RECORDS, FEATURES)), 0, 1)
    x = (low + (high - low) * unit).astype(np.float32).astype(np.float64)
    bias = -float(np.median(x @ weight))
    margin = x @ weight + bias
    sign = np.where(margin > 0, 1.0, -1.0)
    loss = worst_loss(weight, x, sign, threat)
    left = np.abs(margin) - loss
    broken = climb(
        _plane(weight, bias, device),
        torch.tensor(x, dtype=torch.float32, device=device),
        torch.tensor(sign > 0, dtype=torch.int64, device=device),
        threat,
        [replace(rung, attack=_at_home(rung.attack)) for rung in rungs],
        seed=SEED,
        block=0,
    )
    stands = (broken.by == STANDS).cpu().numpy()
    rounding = 1e-4 * float(np.abs(weight).sum()) * max(abs(low), abs(high))
    return bool(
        not broken.outside
        and not (stands & (left < -slack[threat.norm] * loss - rounding)).any()
        and not (~stands & (left > rounding)).any()
    )


def _at_home(attack: Any) -> Attack:
    """The attack, or what is wrapped around one, with no surrogate given."""
    if hasattr(attack, "attack"):
        attack = replace(attack, attack=_at_home(attack.attack))
    return replace(attack, surrogate="", digest="") if isinstance(attack, Transfer) else attack


def _multiplier(gain: Array, room: Array, epsilon: float) -> Array:
    """The t at which ``min(room, t gain)`` has length epsilon, or one that fills every room; by bisection."""
    low, high = np.zeros(len(room)), np.full(len(room), 1.0)
    reach = np.linalg.norm(room, axis=1)
    for _ in range(200):
        short = (np.linalg.norm(np.minimum(room, high[:, None] * gain), axis=1) < np.minimum(epsilon, reach)) & (
            high < 1e12
        )
        if not short.any():
            break
        high = np.where(short, 2 * high, high)
    for _ in range(100):
        middle = (low + high) / 2
        short = np.linalg.norm(np.minimum(room, middle[:, None] * gain), axis=1) < epsilon
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return high


def _plane(weight: Array, bias: float, device: torch.device) -> nn.Module:
    plane = nn.Linear(len(weight), 2)
    with torch.no_grad():
        plane.weight.copy_(torch.tensor(np.stack([-weight, weight]) / 2))
        plane.bias.copy_(torch.tensor([-bias / 2, bias / 2]))
    return plane.to(device).eval().requires_grad_(False)
