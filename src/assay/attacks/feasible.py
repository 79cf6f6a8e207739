"""Constraints of tables for tensors: the nearest reachable point, whole rows, and the gradient through rounding.

An attack moves in the convex relaxation: the box that each column may reach, cut by the ball, the relations, and a sum
of 1 over every one-hot group. `nearest` projects there by Dykstra's algorithm, in closed form where the box is all
there is. `whole` then makes integers and groups whole and brings the other columns back; a row that it cannot bring
back becomes its origin. What comes out is judged by `Constraints.holds`, which knows nothing of all this.

References: Boyle and Dykstra. A Method for Finding Projections onto the Intersection of Convex Sets in Hilbert Spaces.
    1986. Simonetto et al. A Unified Framework for Adversarial Attack and Defense in Constrained Feature Space. IJCAI
    2022. arXiv:2112.01156. Bengio, Leonard and Courville (the straight-through estimator). 2013. arXiv:1308.3432.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from assay.constraints import ROUNDING, Constraints, Relation
from assay.errors import UnfitInput
from assay.threat import ThreatModel

CYCLES = 300
MEAN_STEP = 4.0
CONVERGED = 1e-10

__all__ = ["coupled", "holds", "nearest", "reach", "require_table", "snap", "steepest", "through_rounding", "whole"]

Onto = Callable[[torch.Tensor], torch.Tensor]
Ends = tuple[torch.Tensor, torch.Tensor]


def require_table(threat: ThreatModel, x: torch.Tensor) -> Constraints:
    """The constraints of a threat that has some, for inputs that are rows of its columns.

    Raises:
        UnfitInput: no constraints, other columns, or the norm ``l0``.
    """
    constraints = threat.constraints
    if constraints is None or threat.norm == "l0":
        raise UnfitInput("threat", threat.key, "constraints, and linf, l2 or l1")
    if x.ndim != 2 or x.shape[1] != len(constraints.columns):
        raise UnfitInput("x", f"shape {tuple(x.shape)}", f"(N, {len(constraints.columns)}), as the constraints have it")
    return constraints


def reach(threat: ThreatModel, x: torch.Tensor) -> Ends:
    """Least and greatest value that each column of each row may take by itself, (N, D) float64 each; x is between.

    Box, budgets and directions, and for ``linf`` the ball; of columns that hold whole numbers, whole numbers.
    """
    constraints = require_table(threat, x)
    at = x.double()
    down, up = (torch.from_numpy(side).to(x.device) for side in constraints.reach())
    if threat.norm == "linf":
        down, up = down.clamp_max(threat.epsilon), up.clamp_max(threat.epsilon)
    low, high = (at - down).clamp_min(threat.bounds[0]), (at + up).clamp_max(threat.bounds[1])
    steps = _whole_columns(constraints, x.device)
    slack = ROUNDING * at.abs()
    low, high = torch.where(steps, (low - slack).ceil(), low), torch.where(steps, (high + slack).floor(), high)
    return torch.minimum(low, at), torch.maximum(high, at)


def coupled(threat: ThreatModel) -> bool:
    """Whether one column's move may ask for another's, so that the way up is no longer that of each column alone."""
    constraints = threat.constraints
    return constraints is not None and threat.norm == "linf" and bool(constraints.relations or constraints.one_hot)


def steepest(threat: ThreatModel, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient itself, in the units that `nearest` measures in, of mean size 4, for columns that are coupled.

    The sign of the gradient, which is steepest in a box, would climb another function here: a point that does not move
    when it goes along a gradient and back to the nearest point of a convex set is a maximum of the linear part; a point
    that goes along the signs need not be. With a mean of 4 the path is long enough for columns of small slope too.
    """
    scale = _scale(threat, gradient)
    turned = scale * gradient
    mean = turned.abs().mean(dim=1, keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
    return MEAN_STEP * scale / threat.epsilon * turned / mean


def nearest(threat: ThreatModel, x: torch.Tensor, x_adv: torch.Tensor) -> torch.Tensor:
    """The point of the relaxation nearest to x_adv; shape and dtype of x.

    For ``linf`` a distance counts in units of what each column may move at all. As x is a sound row, the set is convex
    and holds x: what the iteration leaves outside a relation is pulled to x.
    """
    constraints = require_table(threat, x)
    found = _project(threat, x.double(), x_adv.double(), reach(threat, x))
    delta = found - x.double()
    share = torch.ones(len(x), dtype=torch.float64, device=x.device)
    for relation in constraints.relations:
        weights = _weights(relation, x.device)
        slack = ROUNDING / 2 * (x.double().abs() @ weights.abs() + abs(relation.bound))
        room = (relation.bound - x.double() @ weights).clamp_min(0) + slack
        gain = delta @ weights
        share = torch.where(gain > room, torch.minimum(share, room / gain), share)
    pulled: torch.Tensor = (x.double() + share[:, None] * delta).to(x.dtype)
    return pulled.clamp(*threat.bounds)


def whole(threat: ThreatModel, x: torch.Tensor, x_adv: torch.Tensor) -> torch.Tensor:
    """Sound rows near x_adv that x may become: rounded, else with the discrete columns of x, else x; dtype of x."""
    constraints = require_table(threat, x)
    low, high = reach(threat, x)
    steps, at = _whole_columns(constraints, x.device), x.double()
    near = nearest(threat, x, x_adv).double()
    done, made = torch.zeros(len(x), dtype=torch.bool, device=x.device), x.clone()
    for discrete in (_snap_within(constraints, near, low, high), at):
        left = torch.nonzero(~done).flatten()
        ends = torch.where(steps, discrete, low)[left], torch.where(steps, discrete, high)[left]
        tried = _project(threat, at[left], torch.where(steps, discrete, near)[left], ends)
        tried = tried.to(x.dtype).clamp(*threat.bounds)
        sound = holds(threat, x[left], tried)
        made[left[sound]], done[left[sound]] = tried[sound], True
    return made


def holds(threat: ThreatModel, x: torch.Tensor, x_adv: torch.Tensor) -> torch.Tensor:
    """(N,) bool: a sound row that x may become, and within the ball; judged by `Constraints.holds`."""
    constraints = require_table(threat, x)
    sound = constraints.holds(x.detach().cpu().numpy(), x_adv.detach().cpu().numpy())
    size = torch.linalg.vector_norm((x_adv - x).double(), ord=_order(threat), dim=1)
    inside: torch.Tensor = size <= threat.epsilon * (1 + 1e-6) + ROUNDING * x.abs().sum(1)
    return torch.from_numpy(sound).to(x.device) & inside


def snap(constraints: Constraints, x: torch.Tensor) -> torch.Tensor:
    """Integers rounded, and 1 for the greatest column of each one-hot group, 0 for the others; shape of x."""
    integer = torch.tensor(constraints.integer, device=x.device)
    snapped = torch.where(integer, x.round(), x)
    for group in constraints.one_hot:
        columns = list(group)
        snapped[:, columns] = nn.functional.one_hot(x[:, columns].argmax(1), len(columns)).to(x)
    return snapped


def through_rounding(model: nn.Module, constraints: Constraints | None) -> nn.Module:
    """The model's answer for whole rows, with the gradient as if nothing were rounded; itself without constraints."""
    return model if constraints is None or not constraints.discrete else _Snapped(model, constraints).eval()


class _Snapped(nn.Module):
    def __init__(self, model: nn.Module, constraints: Constraints) -> None:
        super().__init__()
        self.model, self.constraints = model, constraints
        if hasattr(model, "exact"):
            self.exact = _Snapped(model.exact, constraints)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(snap(self.constraints, x.detach()) + (x - x.detach()))
        return logits


def _project(threat: ThreatModel, x: torch.Tensor, x_adv: torch.Tensor, ends: Ends) -> torch.Tensor:
    """Dykstra's algorithm, for the rows that the box alone does not settle; the box comes last, so it holds exactly."""
    found = x_adv.clamp(*ends)
    far = ~_settled(threat, x, found)
    if bool(far.any()):
        sets = _sets(threat, x[far], (ends[0][far], ends[1][far]))
        found[far] = _dykstra(x_adv[far], sets)
    return found


def _dykstra(point: torch.Tensor, sets: Sequence[Onto]) -> torch.Tensor:
    """The points may stand still for many cycles while what is carried changes: both must have come to rest."""
    carried, enough = [torch.zeros_like(point) for _ in sets], CONVERGED * max(1.0, float(point.abs().amax()))
    for _ in range(CYCLES):
        before, change = point, 0.0
        for number, onto in enumerate(sets):
            moved = point + carried[number]
            point = onto(moved)
            change = max(change, float((moved - point - carried[number]).abs().amax()))
            carried[number] = moved - point
        if max(change, float((point - before).abs().amax())) <= enough:
            break
    return point


def _sets(threat: ThreatModel, x: torch.Tensor, ends: Ends) -> list[Onto]:
    """Projections onto each of the convex sets."""
    constraints = require_table(threat, x)
    square = _scale(threat, x) ** 2 if threat.norm == "linf" else torch.ones_like(x[:1])
    square = torch.where(ends[0] < ends[1], square, 0.0)  # what cannot move is not asked to
    sets = [_half_space(relation, square) for relation in constraints.relations]
    sets += [_sum_of_one(list(group), square) for group in constraints.one_hot]
    if threat.norm != "linf":
        from assay.attacks.geometry import project

        free = replace(threat, constraints=None)
        sets.append(lambda point: project(free, x, point))
    return [*sets, lambda point: point.clamp(*ends)]


def _settled(threat: ThreatModel, x: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """(N,) bool: ball, relations and groups hold already."""
    constraints = require_table(threat, x)
    good: torch.Tensor = torch.linalg.vector_norm(point - x, ord=_order(threat), dim=1) <= threat.epsilon * (1 + 1e-12)
    if threat.norm == "linf":
        good = torch.ones_like(good)  # the ends are those of the ball
    for relation in constraints.relations:
        good &= point @ _weights(relation, x.device) <= relation.bound
    for group in constraints.one_hot:
        good &= (point[:, list(group)].sum(1) - 1).abs() <= CONVERGED
    return good


def _half_space(relation: Relation, square: torch.Tensor) -> Onto:
    """Onto ``weights @ point <= bound``; ``square`` (N, D) is the metric's inverse, 0 where nothing moves."""
    weights = _weights(relation, square.device)
    way = square * weights
    length = (way @ weights).clamp_min(torch.finfo(torch.float64).tiny)
    return lambda point: point - ((point @ weights - relation.bound).clamp_min(0) / length)[:, None] * way


def _sum_of_one(columns: list[int], square: torch.Tensor) -> Onto:
    way = torch.zeros_like(square)
    way[:, columns] = square[:, columns]
    way = way / way.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return lambda point: point - (point[:, columns].sum(1, keepdim=True) - 1) * way


def _scale(threat: ThreatModel, like: torch.Tensor) -> torch.Tensor:
    """(1, D): how far each column may move at all, in a ball of ``linf``; dtype of like."""
    constraints = require_table(threat, like)
    down, up = constraints.reach()
    far = torch.from_numpy(np.minimum(np.maximum(down, up), threat.epsilon)[None])
    return far.to(like)


def _snap_within(constraints: Constraints, point: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """`snap`, to values within the ends: of a group the greatest column that may be 1 while the others may be 0."""
    snapped = torch.where(torch.tensor(constraints.integer, device=point.device), point.round().clamp(low, high), point)
    for group in constraints.one_hot:
        columns = list(group)
        least, most = low[:, columns], high[:, columns]
        empty = least <= 0
        allowed = (most >= 1) & (empty.sum(1, keepdim=True) - empty.long() == len(columns) - 1)
        chosen = torch.where(allowed, point[:, columns], -math.inf).argmax(1)
        snapped[:, columns] = nn.functional.one_hot(chosen, len(columns)).to(point)
    return snapped


def _whole_columns(constraints: Constraints, device: torch.device) -> torch.Tensor:
    """(D,) bool: integers and members of one-hot groups."""
    steps = torch.tensor(constraints.integer, device=device)
    for group in constraints.one_hot:
        steps[list(group)] = True
    return steps


def _weights(relation: Relation, device: torch.device) -> torch.Tensor:
    return torch.tensor(relation.coefficients, dtype=torch.float64, device=device)


def _order(threat: ThreatModel) -> float:
    return {"linf": math.inf, "l2": 2.0, "l1": 1.0}[threat.norm]
