"""How far a regression model can be led astray inside a ball: what attacks find, and what is proven not exceeded.

Between the two lies the truth. Of an affine model both are the closed form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from assay import catalog
from assay.attacks.geometry import MOVES, Attack
from assay.attacks.square import Square
from assay.errors import UnfitInput
from assay.evaluate.ladder import within
from assay.evaluate.layers import Layer, Relu
from assay.evaluate.lipschitz import lipschitz
from assay.evaluate.relaxation import output_bounds
from assay.evaluate.selftest import FEATURES, RECORDS, SEED, SLACK, worst_loss
from assay.models.fit import generator_for
from assay.threads import leave_if_asked
from assay.threat import ThreatModel

ROUNDING = 1e-5
"""Room for the rounding of a float32 network, relative to its greatest output (above 1)."""
CHUNK_RECORDS = 64
SEARCHED, QUERIES = 32, 300
"""Records a block on which a search without gradients is tried, and its queries."""

Floats = npt.NDArray[np.float64]

__all__ = [
    "Floats",
    "Reached",
    "attacked_error",
    "attacks_of",
    "ends",
    "farthest",
    "joined",
    "plane_reached",
    "proof_of",
    "reach",
]


@dataclass(frozen=True)
class Reached:
    """What one block's records can be led to under one threat; (N,) float64 each.

    Fields:
        found: greatest error that an attack, or the closed form, reaches.
        bound: error that no point exceeds; infinite where nothing is proven.
        change: greatest distance from the clean prediction that was found.
        limit: distance that no point exceeds by the Lipschitz bound; infinite where there is none.
        followed, searched: greatest error of the attacks that follow the gradient, and of a search that does not, on
            the records where both were tried, (M,).
        outside: points that an attack returned outside ball or box, which count for nothing.
    """

    found: Floats
    bound: Floats
    change: Floats
    limit: Floats
    followed: Floats
    searched: Floats
    outside: int


class _Sided(nn.Module):
    """A quantity as two logits: to be wrong about class 0 is to make it small, about class 1 to make it large."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        leave_if_asked()
        out: torch.Tensor = self.model(x)
        return torch.cat([out, -out], dim=1)


def attacks_of(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Attack]:
    """The configured attacks as they climb a quantity: by the margin, to the end of their steps.

    Raises:
        UnfitInput: an attack that looks for the border of a class.
    """
    found = {}
    for name, settings in given.items():
        attack = catalog.build("attacks", name, settings)
        if not hasattr(attack, "loss") or hasattr(attack, "targets"):
            raise UnfitInput(f"attacks.{name}", "an attack on a class", "fgsm, pgd or apgd for a regression")
        wanted = {"loss": "margin"} | ({"drop": False} if hasattr(attack, "drop") else {})
        found[name] = cast(Attack, replace(attack, **wanted))
    return found


def reach(
    model: nn.Module,
    layers: Sequence[Layer] | None,
    x: torch.Tensor,
    y: Floats,
    threat: ThreatModel,
    attacks: Mapping[str, Attack],
    *,
    seed: int,
    block: int,
) -> Reached:
    """Attack the records of a block, and prove what can be proven.

    Args:
        model: maps (N, ...) to quantities (N, 1); float32, in eval mode.
        layers: of the model, see `layers_of`; None where it has others.
        x: (N, ...) inside the box.
        y: (N,) the true quantities.
        threat: ball and box.
        attacks: see `attacks_of`.
        seed: what the attacks draw from.
        block: its number, likewise.
    """
    clean = _said(model, x)
    low, high, outside = ends(model, x, threat, attacks, seed, block)
    followed = farthest(low, high, y)
    first = slice(0, SEARCHED)
    search: dict[str, Attack] = {"search": Square(queries=QUERIES)}
    less, more, wrong = ends(model, x[first], threat, search, seed, block)
    looked = slice(SEARCHED if threat.norm in MOVES else 0)
    searched = farthest(less, more, y[first])[looked]
    low[first], high[first] = np.minimum(low[first], less), np.maximum(high[first], more)
    least, most = _proven(layers, x, threat)
    room = ROUNDING * np.maximum(1, np.fmax(np.abs(clean), np.where(np.isinf(least), 0, np.fmax(-least, most))))
    if proof_of(layers, threat) == "exact":  # an attack only comes near
        low, high = np.minimum(low, least + room), np.maximum(high, most - room)
    limit = _limit(layers, x, threat) + room
    bound = np.minimum(farthest(least - room, most + room, y), np.abs(clean - y) + limit)
    return Reached(
        found=farthest(low, high, y),
        bound=bound,
        change=farthest(low, high, clean),
        limit=limit,
        followed=followed[looked],
        searched=searched,
        outside=outside + wrong,
    )


def attacked_error(
    model: nn.Module,
    x: torch.Tensor,
    y: Floats,
    threat: ThreatModel,
    attacks: Mapping[str, Attack],
    *,
    seed: int,
    block: int,
) -> Floats:
    """The greatest error that attacks find, (N,); arguments as for `reach`."""
    low, high, _ = ends(model, x, threat, attacks, seed, block)
    return farthest(low, high, y)


def joined(parts: Sequence[Reached]) -> Reached:
    """Blocks one after the other."""
    names = ("found", "bound", "change", "limit", "followed", "searched")
    whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Reached(**whole, outside=sum(part.outside for part in parts))


def proof_of(layers: Sequence[Layer] | None, threat: ThreatModel) -> str:
    """How the upper end is known: ``exact``, ``crown``, or ``none``."""
    if layers is None:
        return "none"
    if threat.constraints is None and not any(isinstance(layer, Relu) for layer in layers):
        return "exact"
    return "crown" if threat.norm != "l0" else "none"


def plane_reached(attacks: Mapping[str, Attack], threat: ThreatModel, on_average: bool = False) -> bool:
    """Whether the attacks find the exact worst case of an affine model, up to a hundredth (``linf``; see `SLACK`).

    Of every record; or, of a search with few queries, on average over them, which is what a mean error is made of.
    """
    low, high = threat.bounds
    draw = np.random.default_rng(SEED)
    weight = draw.standard_normal(FEATURES)
    x = (low + (high - low) * np.clip(draw.uniform(-0.5, 1.5, (RECORDS, FEATURES)), 0, 1)).astype(np.float32)
    plane = nn.Linear(FEATURES, 1)
    with torch.no_grad():
        plane.weight.copy_(torch.from_numpy(weight)[None])
        plane.bias.zero_()
    given = torch.from_numpy(x)
    found = ends(plane.eval().requires_grad_(False), given, threat, attacks, SEED, 0)
    rounding = 1e-4 * float(np.abs(weight).sum()) * max(abs(low), abs(high))
    said, held = x.astype(np.float64) @ weight, not found[2]
    for sign, end in ((1.0, found[0]), (-1.0, found[1])):
        exact = worst_loss(weight, x.astype(np.float64), np.full(len(x), sign), threat)
        moved = sign * (said - end)
        least = (1 - SLACK[threat.norm]) * exact - rounding
        reached = moved.mean() >= least.mean() if on_average else (moved >= least).all()
        held &= bool(reached and (moved <= exact + rounding).all())
    return held


def ends(
    model: nn.Module, x: torch.Tensor, threat: ThreatModel, attacks: Mapping[str, Attack], seed: int, block: int
) -> tuple[Floats, Floats, int]:
    """The least and greatest quantity that any attack finds, (N,) each, and how many points lay outside."""
    low = _said(model, x)
    high, outside = low.copy(), 0
    sided = _Sided(model).eval()
    for name, attack in attacks.items():
        if threat.norm not in getattr(attack, "norms", MOVES):
            continue
        generator = generator_for(seed, "regression", name, threat.key, block)
        both = torch.cat([x, x])
        y = torch.arange(2, device=x.device).repeat_interleave(len(x))
        x_adv = attack(sided, both, y, threat, generator=generator).detach()
        inside = within(threat, both, x_adv)
        outside += int((~inside).sum())
        reached = np.where(inside.cpu().numpy(), _said(model, x_adv), np.tile(low, 2))
        for said in np.split(reached, 2):
            low = np.where(np.isfinite(said), np.fmin(low, said), -np.inf)
            high = np.where(np.isfinite(said), np.fmax(high, said), np.inf)
    return low, high, outside


def _proven(layers: Sequence[Layer] | None, x: torch.Tensor, threat: ThreatModel) -> tuple[Floats, Floats]:
    """Least and greatest quantity of the network in real numbers, anywhere in ball and box, (N,) each."""
    how = proof_of(layers, threat)
    if how == "none" or layers is None:
        return np.full(len(x), -np.inf), np.full(len(x), np.inf)
    if how == "exact":
        return _closed_form(layers, x, threat)
    parts = [output_bounds(layers, part, threat) for part in torch.split(x, CHUNK_RECORDS)]
    low, high = (torch.cat([part[end] for part in parts]).flatten().cpu().numpy() for end in (0, 1))
    return low, high


def _closed_form(layers: Sequence[Layer], x: torch.Tensor, threat: ThreatModel) -> tuple[Floats, Floats]:
    rows = torch.ones(1, 1, dtype=torch.float64, device=x.device)
    constant = 0.0
    for layer in reversed(layers):
        assert not isinstance(layer, Relu)
        rows, more = layer.back(rows)
        constant += float(more)
    weight, wide = rows.flatten().cpu().numpy(), x.flatten(1).double().cpu().numpy()
    said, ones = wide @ weight + constant, np.ones(len(wide))
    return said - worst_loss(weight, wide, ones, threat), said + worst_loss(weight, wide, -ones, threat)


def _limit(layers: Sequence[Layer] | None, x: torch.Tensor, threat: ThreatModel) -> float:
    """How far the quantity moves at most by the Lipschitz bound."""
    if layers is None or threat.norm == "l0":
        return float("inf")
    reach = threat.epsilon * (x[0].numel() ** 0.5 if threat.norm == "linf" else 1.0)  # |delta|_2 <= |delta|_1 too
    return reach * lipschitz(layers)


def _said(model: nn.Module, x: torch.Tensor) -> Floats:
    with torch.no_grad():
        found: Floats = model(x)[:, 0].double().cpu().numpy()
    return found


def farthest(low: Floats, high: Floats, y: Floats) -> Floats:
    """How far the truth is at most from anything in between."""
    return np.asarray(np.maximum(np.abs(low - y), np.abs(high - y)))
