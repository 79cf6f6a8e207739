"""The ball and the box: random start, steepest step, projection and size, per norm.

`ThreatModel` is plain data that the gate reads without torch; what it means for tensors is here. The box is projected
onto, never clamped to inside the model's graph: a clamp has no gradient outside, which stalls an attack at the
edge of the box and overstates robustness.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import nn

from assay.attacks import feasible, l0
from assay.attacks.l1 import ball_in_box, dearest_first, draw
from assay.errors import UnfitInput
from assay.threat import Norm, ThreatModel

MOVES: tuple[Norm, ...] = ("linf", "l2", "l1")

__all__ = ["MOVES", "Attack", "ahead", "project", "random_start", "require_fit", "size", "steepest"]


class Attack(Protocol):
    """A frozen dataclass whose fields are its whole configuration.

    Call with:
        model: maps (N, ...) to logits (N, K); in eval mode; not modified.
        x: (N, ...) floating point, inside ``threat.bounds``.
        y: (N,) int64 in [0, K), the true classes.
        threat: norm, radius and box; epsilon in the units of x.
        generator: the only source of randomness, on the CPU or the device of x; same state, same result.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box.
    """

    def __call__(
        self,
        model: nn.Module,
        x: torch.Tensor,
        y: torch.Tensor,
        threat: ThreatModel,
        *,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """The adversarial examples."""
        ...


def random_start(threat: ThreatModel, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A point drawn uniformly from the ball around each x, then brought into the box; shape and dtype of x."""
    if threat.norm == "l0":
        return l0.draw(x.flatten(1), int(threat.epsilon), threat.bounds, generator).view_as(x)
    if threat.norm == "linf":
        delta = 2 * _draw(torch.rand, x, generator) - 1
    elif threat.norm == "l1":
        delta = draw(x.flatten(1), generator).view_as(x)
    else:
        radius = _draw(torch.rand, x[:, :1].flatten(1)[:, 0], generator) ** (1 / _features(x))
        delta = steepest(threat, _draw(torch.randn, x, generator)) * _wide(radius, x)
    return project(threat, x, x + threat.epsilon * delta)


def ahead(
    threat: ThreatModel, here: torch.Tensor, gradient: torch.Tensor, length: float | torch.Tensor
) -> torch.Tensor:
    """The point a step of this length away along which a linear function grows most; for ``l1`` inside the box.

    Args:
        threat: norm and box.
        here: (N, ...) inside the box.
        gradient: shape of here.
        length: in the threat's norm; one number, or (N, 1, ...).
    """
    if _known(threat) != "l1":
        moved: torch.Tensor = here + length * steepest(threat, gradient)
        return moved
    if isinstance(length, torch.Tensor):
        length = length.reshape(-1, 1)
    room = _room(threat, here, gradient)
    return here + dearest_first(gradient.flatten(1), room, length).view_as(here)


def steepest(threat: ThreatModel, gradient: torch.Tensor) -> torch.Tensor:
    """Direction of size 1 in the threat's norm along which a linear function with this gradient grows fastest.

    An example whose gradient is zero stays where it is.
    """
    if threat.constraints is not None and feasible.coupled(threat):
        return feasible.steepest(threat, gradient)
    if _known(threat) == "linf":
        return gradient.sign()
    flat: torch.Tensor = gradient.flatten(1)
    if threat.norm == "l1":
        return dearest_first(flat, torch.ones_like(flat), 1.0).view_as(gradient)
    scaled = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(_tiny(flat))
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(_tiny(flat))
    direction: torch.Tensor = (scaled / length).view_as(gradient)
    return direction


def project(threat: ThreatModel, x: torch.Tensor, x_adv: torch.Tensor) -> torch.Tensor:
    """A point of ball and box near x_adv: the nearest, but for ``l2`` first of the ball, then of the box.

    As x lies in the box, the second step only shrinks the distance to x, so the point stays in the ball.
    """
    if threat.constraints is not None:
        return feasible.nearest(threat, x, x_adv)
    if threat.norm == "l0":
        return l0.nearest(x.flatten(1), x_adv.flatten(1), int(threat.epsilon), threat.bounds).view_as(x)
    delta = x_adv - x
    if threat.norm == "l1":
        delta = ball_in_box(delta.flatten(1), _room(threat, x, delta), threat.epsilon).view_as(x)
    elif threat.norm == "linf":
        delta = delta.clamp(-threat.epsilon, threat.epsilon)
    else:
        delta = delta * _wide((threat.epsilon / size(threat, delta).clamp_min(_tiny(x))).clamp_max(1), x)
    inside: torch.Tensor = (x + delta).clamp(*threat.bounds)
    return inside


def size(threat: ThreatModel, delta: torch.Tensor) -> torch.Tensor:
    """The threat's norm of each perturbation, (N,)."""
    order = {"linf": math.inf, "l2": 2.0, "l1": 1.0, "l0": 0.0}[threat.norm]
    sizes: torch.Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=order, dim=1)
    return sizes


def require_fit(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, norms: tuple[Norm, ...] = MOVES
) -> None:
    """Check what every attack needs of its arguments; one that moves in fewer norms than `MOVES` names its own.

    Raises:
        UnfitInput: a model in training mode, an x that is no floating point or leaves the box, a y that does not match,
            or a threat model that a white-box untargeted attack does not answer for.
    """
    if any(module.training for module in model.modules()):
        raise UnfitInput("model", "training mode", "eval mode", "Call model.eval() first.")
    if (threat.goal, threat.knowledge) != ("untargeted", "white-box"):
        raise UnfitInput("threat", f"{threat.goal}, {threat.knowledge}", "untargeted, white-box")
    if threat.norm not in norms:
        raise UnfitInput("threat.norm", threat.norm, " or ".join(norms), "This attack does not move in it.")
    if not x.is_floating_point() or x.ndim < 2:
        raise UnfitInput("x", f"{x.dtype} of shape {tuple(x.shape)}", "floating point of shape (N, ...)")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise UnfitInput("y", f"{y.dtype} of shape {tuple(y.shape)}", f"torch.int64 of shape ({len(x)},)")
    low, high = torch.tensor(threat.bounds, dtype=x.dtype)
    if x.numel() and not (x.min() >= low and x.max() <= high):
        raise UnfitInput(
            "x",
            f"values in [{x.min():.6g}, {x.max():.6g}]",
            f"values in [{low:.6g}, {high:.6g}]",
            "Scale the inputs, or set ThreatModel(bounds=...) to the range the model was trained on.",
        )


def _known(threat: ThreatModel) -> Norm:
    """The norm, of those in which a step along the gradient is defined."""
    if threat.norm == "l0":
        raise UnfitInput("threat.norm", threat.norm, "linf, l2 or l1", "It has no steepest step.")
    return threat.norm


def _room(threat: ThreatModel, x: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """(N, D): how far each feature may go in the direction given by a sign."""
    low, high = threat.bounds
    flat = x.flatten(1)
    return torch.where(direction.flatten(1) > 0, high - flat, flat - low).clamp_min(0)


def _draw(kind: Any, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random numbers drawn where the generator lives, then moved to the tensor they serve."""
    drawn: torch.Tensor = kind(like.shape, generator=generator, dtype=like.dtype, device=generator.device)
    return drawn.to(like.device)


def _features(x: torch.Tensor) -> int:
    return math.prod(x.shape[1:])


def _wide(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(N,) as (N, 1, ...), to multiply x with."""
    return values.reshape(-1, *(1 for _ in x.shape[1:]))


def _tiny(x: torch.Tensor) -> float:
    return float(torch.finfo(x.dtype).tiny)
