"""A search over the columns of a table, one at a time, that asks for logits only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from assay.attacks.best import Best
from assay.attacks.feasible import reach, whole
from assay.attacks.geometry import project, require_fit
from assay.attacks.objective import margin
from assay.errors import UnfitInput
from assay.threat import ThreatModel

__all__ = ["Coordinate"]


@dataclass(frozen=True, kw_only=True)
class Coordinate:
    """Move one column, or one group of columns, at a time, and keep the move when the margin does not fall.

    Sweeps over all moves in random order: of each column to the least and to the greatest value it may reach, of each
    whole number one up and one down, of each one-hot group to each of its values. What a move breaks of ball or
    relations is mended by moving the other columns to the nearest point that keeps to them. On a model that is linear
    and a threat whose columns are free of each other, one sweep finds the worst case. It needs no gradient, so integers
    and groups are as good to it as any column.

    Fields:
        queries: proposals for each record; one forward pass each.
        drop: let a record leave the batch once it is misclassified.

    Call with: as PGD.

    Returns:
        x_adv: shape, dtype and device of x; inside ball, box and constraints; margin never below that of x.

    Raises:
        UnfitInput: x leaves the box, or the model is in training mode.

    Reference: after Kulynych et al. Evading Classifiers in Discrete Domains with Provable Optimality Guarantees. 2018.
        arXiv:1810.10939 (greedy search over feasible transformations).
    """

    queries: int = 500
    drop: bool = False

    gradient_free: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise UnfitInput("attacks.coordinate: queries", str(self.queries), "at least 1")

    def __call__(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> torch.Tensor:
        """The adversarial examples; see the class."""
        require_fit(model, x, y, threat)
        x = x.detach()
        best = Best(model, x, y, "margin", drop=self.drop)
        x, y_here = x[best.rows], y[best.rows]
        here, loss = x.clone(), margin(best.logits[best.rows], y_here)
        moves = _moves(threat, x)
        order = torch.empty(0, dtype=torch.int64)
        for query in range(self.queries):
            if (stays := best.leave()) is not None:
                x, here, loss = x[stays], here[stays], loss[stays]
            if not len(best.rows):
                break
            if query % len(moves) == 0:
                order = torch.randperm(len(moves), generator=generator, device=generator.device)
            proposed = _proposal(threat, x, here, moves[int(order[query % len(moves)])])
            found = margin(best.look(proposed), y[best.rows])
            better = ~(found < loss)
            wide = better.reshape(-1, *(1 for _ in x.shape[1:]))
            here, loss = torch.where(wide, proposed, here), torch.where(better, found, loss)
        best.leave()
        return best.x_adv


@dataclass(frozen=True)
class _Move:
    """Columns of the flat row, and where they go: ``low``, ``high``, ``up``, ``down``, or the one to be 1."""

    columns: tuple[int, ...]
    to: str | int


def _moves(threat: ThreatModel, x: torch.Tensor) -> list[_Move]:
    constraints, features = threat.constraints, x[:1].flatten(1).shape[1] if len(x) else 1
    grouped = {at for group in constraints.one_hot for at in group} if constraints else set()
    whole_numbers = [at for at in range(features) if constraints and constraints.integer[at]]
    ends = [_Move((at,), to) for at in range(features) if at not in grouped for to in ("low", "high")]
    steps = [_Move((at,), to) for at in whole_numbers for to in ("up", "down")]
    groups = constraints.one_hot if constraints else ()
    return [*ends, *steps, *(_Move(group, number) for group in groups for number in range(len(group)))]


def _proposal(threat: ThreatModel, x: torch.Tensor, here: torch.Tensor, move: _Move) -> torch.Tensor:
    """The points after one move, mended."""
    low, high = _ends(threat, x)
    flat, columns = here.flatten(1).clone(), list(move.columns)
    if isinstance(move.to, int):
        flat[:, columns] = 0
        flat[:, columns[move.to]] = 1
    else:
        at = columns[0]
        flat[:, at] = {"low": low[:, at], "high": high[:, at], "up": flat[:, at] + 1, "down": flat[:, at] - 1}[move.to]
    moved = flat.view_as(x)
    return project(threat, x, moved) if threat.constraints is None else whole(threat, x, moved)


def _ends(threat: ThreatModel, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and greatest value each column may reach by itself, flat."""
    if threat.constraints is not None:
        low, high = reach(threat, x)
        return low.to(x.dtype), high.to(x.dtype)
    flat = x.flatten(1)
    return (flat - threat.epsilon).clamp_min(threat.bounds[0]), (flat + threat.epsilon).clamp_max(threat.bounds[1])
