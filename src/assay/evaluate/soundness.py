"""Is the measurement itself to be trusted? Each check says ``holds``, ``misses`` or ``not_measured``.

A miss means that the robust accuracy is not known, never that the model is robust.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from assay.attacks.objective import margin
from assay.estimate import proportion
from assay.evaluate.blocks import BLOCK_RECORDS
from assay.evaluate.outcomes import Outcomes
from assay.evaluate.selftest import self_test
from assay.evaluate.strength import RESCALED, SEARCH, TRANSFER, RandomSearch
from assay.threat import ThreatModel

if TYPE_CHECKING:
    from assay.evaluate.measure import Plan

TOLERANCE = 0.02
MOST_ZERO_GRADIENTS = 0.05
PASSES_AGREE = 1e-4
SEARCHED = RandomSearch().records

__all__ = ["MOST_ZERO_GRADIENTS", "PASSES_AGREE", "TOLERANCE", "box_size", "differ", "tally", "verdicts"]


def box_size(threat: ThreatModel, features: int) -> float:
    """The radius that holds the whole box from any point of it."""
    low, high = threat.bounds
    widths = {"linf": 1.0, "l2": math.sqrt(features), "l1": float(features), "l0": features / (high - low)}
    return (high - low) * widths[threat.norm]


def tally(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> dict[str, int]:
    """Counts of one block that the checks rest on, from the clean records.

    Three passes: the same again; with the graph that attacks see; and each record among others, for a model whose
    answer depends on the batch. A gradient of cross-entropy that is zero in every feature is what masking leaves.
    """
    with torch.no_grad():
        first, again = model(x), model(x)
        apart = torch.cat([model(part) for part in torch.split(x, -(-len(x) // 3))])
    at = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        graph = model(at)
        loss = functional.cross_entropy(graph, y, reduction="sum")
    gradient = torch.autograd.grad(loss, at)[0].flatten(1)
    sure = margin(first, y) < 0
    flat = ~(gradient.isfinite().all(1) & (gradient != 0).any(1))
    return {
        "records": len(x),
        "clean_not_finite": int((~first.isfinite().all(1)).sum()),
        "passes_differ": int(sum((differ(first, other) for other in (again, apart, graph.detach())), _none(x)).sum()),
        "right": int(sure.sum()),
        "zero_gradient": int((flat & sure).sum()),
    }


def verdicts(outcomes: Outcomes, y: torch.Tensor, plan: Plan, features: int) -> dict[str, str]:
    """What each check says of a whole evaluation.

    - ``finite_logits``: no logit was NaN or infinite, clean or attacked.
    - ``attacks_stay_inside``: no attack returned a point outside ball or box.
    - ``two_passes_agree``: the same record gives the same logits, alone or in another batch, with a graph or without.
    - ``zero_gradient_share``: at most 5 % of the records that are right have no gradient.
    - ``attack_self_test``: on a plane the ladder finds the exact worst case of every threat.
    - ``scale_invariance``, ``gradient_free_not_better``, ``transfer_not_better``: the strongest attack on rescaled
      logits, each attack that asks for logits only, and an attack on a surrogate break at most 2 % (or one) of the
      records they try beyond what the attacks before them broke.
    - ``accuracy_falls_with_epsilon``: up to 2 % (or two) of the records, along the curve of each threat.
    - ``chance_at_whole_box``: with the whole box to move in, no more stand than the commonest class has.

    What rests on attacks that a time limit did not let run is ``not_measured``.
    """
    tallies, threats = outcomes.tallies, plan.threats
    sums = {name: sum(tallies[f"{name}/{threat.key}"] for threat in threats) for name in ("outside", "not_finite")}
    device = y.device
    said: dict[str, bool | None] = {
        "finite_logits": not tallies["clean_not_finite"] and not sums["not_finite"],
        "attacks_stay_inside": not sums["outside"],
        "two_passes_agree": not tallies["passes_differ"],
        "zero_gradient_share": tallies["zero_gradient"] <= MOST_ZERO_GRADIENTS * tallies["right"],
        "attack_self_test": all(self_test(plan.rungs, replace(threat, constraints=None), device) for threat in threats),
    }
    later: dict[str, Callable[[], bool]] = {
        "scale_invariance": lambda: _not_better(outcomes, plan, RESCALED, BLOCK_RECORDS),
        "gradient_free_not_better": lambda: all(
            _not_better(outcomes, plan, rung.name, SEARCHED if rung.name == SEARCH else BLOCK_RECORDS)
            for rung in plan.ladder
            if rung.gradient_free and rung.name != TRANSFER
        ),
        "transfer_not_better": lambda: _not_better(outcomes, plan, TRANSFER, BLOCK_RECORDS),
        "accuracy_falls_with_epsilon": lambda: all(_falls(tallies, plan, threat, features) for threat in threats),
        "chance_at_whole_box": lambda: all(_chance(tallies, plan, threat, features, y) for threat in threats),
    }
    said |= {name: None if tallies["truncated"] else check() for name, check in later.items()}
    return {name: "not_measured" if holds is None else "holds" if holds else "misses" for name, holds in said.items()}


def _not_better(outcomes: Outcomes, plan: Plan, rung: str, most: int) -> bool:
    """Whether a rung broke at most the tolerated share of the records, of which it tried so many a block."""
    number = plan.names.index(rung) + 1
    tried = sum(min(len(block.predicted), most) for block in outcomes.blocks)
    return all(int((by == number).sum()) <= max(1.0, TOLERANCE * tried) for by in outcomes.by.values())


def _falls(tallies: Counter[str], plan: Plan, threat: ThreatModel, features: int) -> bool:
    stands = [tallies[f"curve/{threat.key}/{number}"] for number in range(len(plan.curve(threat, features)))]
    tolerated = max(2.0, TOLERANCE * tallies["records"])
    return all(after - min(stands[:at]) <= tolerated for at, after in enumerate(stands) if at)


def _chance(tallies: Counter[str], plan: Plan, threat: ThreatModel, features: int, y: torch.Tensor) -> bool:
    last = len(plan.curve(threat, features)) - 1
    commonest = int(torch.bincount(y.cpu()).max()) / len(y)
    return proportion(tallies[f"curve/{threat.key}/{last}"], len(y)).low <= commonest


def differ(first: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """(N,) bool: logits apart by more than the tolerance, relative to their size; NaN differs from nothing finite."""
    scale = torch.nan_to_num(first).abs().amax(1, keepdim=True).clamp_min(1)
    same = ((first - other).abs() <= PASSES_AGREE * scale) | ((first == other) | (first.isnan() & other.isnan()))
    return ~same.all(1)


def _none(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(x), dtype=torch.bool, device=x.device)
