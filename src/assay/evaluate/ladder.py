"""The ladder: attacks from cheap to dear, restart by restart; a record that one has broken leaves the batch."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from assay import catalog
from assay.attacks import feasible
from assay.attacks.geometry import Attack
from assay.evaluate.fast import exact
from assay.evaluate.outcomes import STANDS, WRONG
from assay.models.fit import generator_for
from assay.threat import ThreatModel

FORWARD = 1 / 3
"""What a forward pass costs, in gradient evaluations of one forward and one backward pass."""

__all__ = ["Broken", "Rung", "climb", "ladder", "right", "within"]


@dataclass(frozen=True)
class Rung:
    """One attack of the ladder.

    Fields:
        name: of the attack, in estimates.
        attack: for one restart.
        restarts: how often it is tried on what still stands, each time from other random starts.
    """

    name: str
    attack: Attack
    restarts: int = 1

    @property
    def cost(self) -> float:
        """Gradient evaluations that a record which stands costs; a query that needs no gradient is a third of one."""
        attack: Any = self.attack
        inner = getattr(attack, "attack", attack)  # what is wrapped takes the steps
        if self.gradient_free:
            return FORWARD * self.restarts * int(getattr(inner, "queries", 1))
        passes = int(getattr(inner, "steps", 1)) * int(getattr(inner, "samples", 1))
        return float(self.restarts * passes * int(getattr(attack, "targets", 1)))

    @property
    def aims(self) -> bool:
        """It aims at one wrong class after the other."""
        return hasattr(self.attack, "targets")

    @property
    def gradient_free(self) -> bool:
        """It asks for logits only."""
        return bool(getattr(self.attack, "gradient_free", False))


@dataclass(frozen=True)
class Broken:
    """What the ladder did to one block.

    Fields:
        by: (N,) int64: `STANDS`, `WRONG` before any attack, or the number (from 1) of the rung that broke the record.
        x_adv: shape of x: the point that broke the record, or x itself.
        outside: points that an attack returned outside ball or box, which count for nothing.
        not_finite: points inside where a logit was NaN or infinite, which count as broken.
        truncated: time or budget ran out before every rung had tried what still stands.
    """

    by: torch.Tensor
    x_adv: torch.Tensor
    outside: int
    not_finite: int
    truncated: bool = False


def ladder(attacks: Mapping[str, Mapping[str, Any]]) -> tuple[Rung, ...]:
    """The configured attacks, from cheap to dear in gradient evaluations; those that need no gradient come last.

    Each is built for one restart, and drops what it has broken where it can.

    Raises:
        UnknownName: no such attack or setting.
        UnfitInput: a setting that the attack refuses.
    """
    rungs = [Rung(name, *_one_restart(catalog.build("attacks", name, settings))) for name, settings in attacks.items()]
    return tuple(sorted(rungs, key=lambda rung: (rung.gradient_free, rung.cost, rung.name)))


def climb(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    threat: ThreatModel,
    rungs: Sequence[Rung],
    *,
    seed: int,
    block: int,
    until: float = math.inf,
    budget: float = math.inf,
) -> Broken:
    """Attack one block until every rung has tried every record that still stands.

    Args:
        model: maps (N, ...) to logits (N, K); in eval mode. Of a fast one the exact network decides who is broken.
        x: (N, ...) inside the box of the threat model.
        y: (N,) int64, the true classes.
        threat: what the attacks may do.
        rungs: the ladder.
        seed: of the whole evaluation.
        block: which block this is.
        until: the instant of the monotonic clock after which no other rung is begun.
        budget: gradient evaluations that a record may cost; a restart that would cost more is not begun.
    """
    judge = exact(model)
    model = feasible.through_rounding(model, threat.constraints)
    by = torch.where(right(judge, x, y), STANDS, WRONG)
    x_adv, outside, not_finite, spent = x.clone(), 0, 0, 0.0
    for number, rung in enumerate(rungs, 1):
        for restart in range(rung.restarts):
            rows = torch.nonzero(by == STANDS).flatten()
            if not len(rows):
                return Broken(by, x_adv, outside, not_finite)
            spent += rung.cost / rung.restarts
            if time.monotonic() >= until or spent > budget:
                return Broken(by, x_adv, outside, not_finite, truncated=True)
            draw = generator_for(seed, threat.key, rung.name, restart, block)
            found = rung.attack(model, x[rows], y[rows], threat, generator=draw).detach()
            if threat.constraints is not None:
                found = feasible.whole(threat, x[rows], found)
            inside = within(threat, x[rows], found)
            found = torch.where(inside.reshape(-1, *(1 for _ in x.shape[1:])), found, x[rows])
            outside += int((~inside).sum())
            logits = _logits(judge, found)
            not_finite += int((~logits.isfinite().all(1)).sum())
            fell = rows[~_right(logits, y[rows])]
            by[fell] = number
            x_adv[fell] = found[by[rows] == number]
    return Broken(by, x_adv, outside, not_finite)


def right(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(N,) bool: the logit of the true class is the greatest, alone, and all logits are finite."""
    return _right(_logits(model, x), y)


def within(threat: ThreatModel, x: torch.Tensor, x_adv: torch.Tensor) -> torch.Tensor:
    """(N,) bool: the point is finite and inside ball, box and constraints, up to the rounding of its type."""
    low, high = threat.bounds
    delta = (x_adv - x).flatten(1).double()
    order = {"linf": float("inf"), "l2": 2.0, "l1": 1.0, "l0": 0.0}[threat.norm]
    rounding = 4 * torch.finfo(x.dtype).eps * max(abs(low), abs(high), 1.0)
    slack = {"linf": 1.0, "l2": delta.shape[1] ** 0.5, "l1": float(delta.shape[1]), "l0": 0.0}[threat.norm] * rounding
    flat = x_adv.flatten(1)
    boxed = flat.isfinite().all(1) & (flat >= low - rounding).all(1) & (flat <= high + rounding).all(1)
    inside: torch.Tensor = torch.linalg.vector_norm(delta, ord=order, dim=1) <= threat.epsilon * (1 + 1e-5) + slack
    return boxed & inside & (feasible.holds(threat, x, x_adv) if threat.constraints is not None else boxed)


def _logits(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(x)
    return logits


def _right(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    true = logits.gather(1, y[:, None]).squeeze(1)
    best_other = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    correct: torch.Tensor = logits.isfinite().all(1) & (true > best_other)
    return correct


def _one_restart(attack: Any) -> tuple[Attack, int]:
    """An attack for one restart that lets go of what it has broken, and how often to try it."""
    known = {field.name for field in dataclasses.fields(attack)}
    restarts = int(attack.restarts) if "restarts" in known else 1
    changes: dict[str, Any] = {name: value for name, value in (("restarts", 1), ("drop", True)) if name in known}
    return dataclasses.replace(attack, **changes), restarts
