"""FAB: walk along the border between two classes towards its point nearest to x."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from assay.attacks.apgd_targeted import nearest_classes
from assay.attacks.best import Best
from assay.attacks.geometry import project, random_start, require_fit, size
from assay.attacks.objective import aimed
from assay.errors import UnfitInput
from assay.threat import Norm, ThreatModel

__all__ = ["FAB", "to_plane"]


@dataclass(frozen=True, kw_only=True)
class FAB:
    """Fast adaptive boundary: where other attacks ascend a loss inside the ball, this one shrinks the perturbation.

    Each step takes the border between the true class and the target for a plane, moves to its nearest point inside the
    box, drawn towards the point of the plane that is nearest to x, and from a misclassified point goes back a part of
    the way. So no loss has to be chosen, and its scale plays no part.

    Fields:
        steps: per target and restart; one forward and one backward pass each.
        restarts: the first begins at x, the others at random inside half of the ball.
        targets: wrong classes to aim at, those of the greatest logits first.
        overshoot: step beyond the plane, at least 1.
        pull: greatest weight of the point nearest to x.
        back: what is left of the perturbation after a misclassified point.
        drop: let a record leave the batch once it is misclassified inside the ball.

    Call with: as PGD.

    Returns:
        x_adv: shape, dtype and device of x; inside ball and box; margin never below that of x.

    Raises:
        UnfitInput: x leaves the box, or the model is in training mode or has no gradient.

    Reference: Croce and Hein. Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack. ICML 2020,
        algorithm 1 (the targeted variant). arXiv:1907.02044.
    """

    steps: int = 100
    restarts: int = 1
    targets: int = 9
    overshoot: float = 1.05
    pull: float = 0.1
    back: float = 0.9
    drop: bool = False

    def __post_init__(self) -> None:
        if min(self.steps, self.restarts, self.targets) < 1:
            got = f"steps {self.steps}, restarts {self.restarts}, targets {self.targets}"
            raise UnfitInput("attacks.fab", got, "all at least 1")
        if not (self.overshoot >= 1 and 0 <= self.pull <= 1 and 0 < self.back < 1):
            got = f"overshoot {self.overshoot}, pull {self.pull}, back {self.back}"
            raise UnfitInput("attacks.fab", got, "overshoot >= 1, pull in [0, 1], back in (0, 1)")

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        require_fit(model, x, y, threat)
        x = x.detach()
        best = Best(model, x, y, "margin", drop=self.drop)
        for target in nearest_classes(best.logits, y, self.targets).T:
            for restart in range(self.restarts):
                start = x + (random_start(threat, x, generator) - x) / 2 if restart else x
                self._walk(best, x, threat, start, target)
        return best.x_adv

    def _walk(
        self, best: Best, x: torch.Tensor, threat: ThreatModel, start: torch.Tensor, target: torch.Tensor
    ) -> None:
        """One walk along the border to one class; what lies outside the ball is looked at where the ball cuts it."""

        def towards(logits: torch.Tensor, true: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return aimed("margin", logits, true, target[rows])

        x, here = x[best.rows], start[best.rows]
        for _ in range(self.steps):
            if not len(best.rows):
                return
            at, inside = here, size(threat, here - x) <= threat.epsilon
            gradient, gap = best.gradient(at, towards, counts=inside)
            here = torch.where(_wide(gap > 0, x), x + self.back * (at - x), at)
            here = self._move(threat, x, here, gradient, gap + _dot(gradient, here - at))
            if (stays := best.leave()) is not None:
                x, here = x[stays], here[stays]
        if len(best.rows):
            best.look(project(threat, x, here))
            best.leave()

    def _move(
        self, threat: ThreatModel, x: torch.Tensor, here: torch.Tensor, gradient: torch.Tensor, gap: torch.Tensor
    ) -> torch.Tensor:
        """The weighted mean of the plane's points nearest to here and to x (eq. 9), a little beyond the plane."""
        from_x = gap + _dot(gradient, x - here)
        near_here = to_plane(threat.norm, here, gradient, gap, threat.bounds)
        near_x = to_plane(threat.norm, x, gradient, from_x, threat.bounds)
        lengths = [size(threat, delta).clamp_min(1e-8) for delta in (near_here, near_x)]
        weight = _wide((lengths[0] / (lengths[0] + lengths[1])).clamp_max(self.pull), x)
        moved = (here + self.overshoot * near_here) * (1 - weight) + (x + self.overshoot * near_x) * weight
        inside: torch.Tensor = moved.clamp(*threat.bounds)
        return inside


def to_plane(
    norm: Norm, x: torch.Tensor, weight: torch.Tensor, gap: torch.Tensor, bounds: tuple[float, float]
) -> torch.Tensor:
    """The least step, in a norm, to the plane on which ``gap + weight . step`` is 0, without leaving the box; exact.

    Feature i moves at most ``room_i``. Linf moves all by the same ``min(room_i, t)``, L2 by ``|weight_i|`` of it in
    units of the room over the weight, both with the t that arrives; L1 moves the features of greatest weight first.

    Args:
        norm: ``linf``, ``l2`` or ``l1``.
        x: (N, ...) inside the box.
        weight: shape of x.
        gap: (N,) how far each x is above the plane.
        bounds: the box.

    Returns:
        The step, of the shape of x; to the corner of the box nearest to the plane where the box does not reach it.
    """
    flat, slope = x.flatten(1), weight.flatten(1)
    direction = -slope.sign() * gap.sign()[:, None]
    room = torch.where(direction > 0, bounds[1] - flat, flat - bounds[0])
    steep, need = slope.abs(), gap.abs()[:, None]
    if norm == "l1":
        order = steep.argsort(dim=1, descending=True)
        sorted_steep, sorted_room = steep.gather(1, order), room.gather(1, order)
        reach = sorted_steep * sorted_room
        left = need - (reach.cumsum(1) - reach)
        paid = torch.minimum((left / sorted_steep.clamp_min(torch.finfo(x.dtype).tiny)).clamp_min(0), sorted_room)
        moved = torch.zeros_like(flat).scatter(1, order, paid)
    else:
        unit = steep if norm == "l2" else torch.ones_like(steep)
        until = torch.where(steep > 0, room / unit.clamp_min(torch.finfo(x.dtype).tiny), 0.0)
        moved = unit * torch.minimum(until, _level(steep * unit, until, need))
    return (direction * moved).view_as(x)


def _level(gain: torch.Tensor, until: torch.Tensor, need: torch.Tensor) -> torch.Tensor:
    """(N, 1): the t at which the sum of ``gain min(until, t)`` is what is needed; beyond every end where it is more."""
    ends, order = until.sort(dim=1)
    gain = gain.gather(1, order)
    done = (gain * ends).cumsum(1)
    rest = gain.flip(1).cumsum(1).flip(1)  # of this end and all later ones
    reached = done + ends * torch.cat([rest[:, 1:], torch.zeros_like(need)], 1)
    piece = torch.searchsorted(reached.contiguous(), need).clamp_max(ends.shape[1] - 1)
    before = torch.where(piece > 0, done.gather(1, (piece - 1).clamp_min(0)), 0.0)
    level = (need - before) / rest.gather(1, piece).clamp_min(torch.finfo(gain.dtype).tiny)
    return torch.where(need >= reached[:, -1:], ends[:, -1:], level)


def _dot(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first * second).flatten(1).sum(1)


def _wide(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, *(1 for _ in x.shape[1:]))
