"""A model that can only be asked, block by block: clean, under every threat, and how far to trust its answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from assay.blackbox.predict import Answers, Asked
from assay.evaluate import soundness
from assay.evaluate.blocks import block_count, block_rows
from assay.evaluate.holdout import Holdout
from assay.evaluate.ladder import climb
from assay.evaluate.measure import Plan
from assay.evaluate.outcomes import BlockOutcome, Outcomes
from assay.evaluate.selftest import self_test
from assay.progress import track
from assay.threat import ThreatModel

NOT_FOR_BLACK_BOXES = (
    "zero_gradient_share",
    "scale_invariance",
    "gradient_free_not_better",
    "transfer_not_better",
    "accuracy_falls_with_epsilon",
    "chance_at_whole_box",
    "holdout_unseen",
)

__all__ = ["ask", "verdicts"]


def ask(asked: Asked, data: Holdout, plan: Plan) -> Outcomes:
    """Attack all records, the first block first."""
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    count = block_count(len(y), plan.block_records)
    return Outcomes(tuple(_block(asked, x, y, plan, index) for index in track(range(count), "attack", count)))


def _block(asked: Asked, x: torch.Tensor, y: torch.Tensor, plan: Plan, index: int) -> BlockOutcome:
    rows = block_rows(index, len(x), plan.block_records)
    x, y = x[rows], y[rows]
    first, again = asked(x), torch.cat([asked(part) for part in torch.split(x, -(-len(x) // 3))])
    tallies = {
        "records": len(x),
        "clean_not_finite": int((~first.isfinite().all(1)).sum()),
        "passes_differ": int(soundness.differ(first, again).sum()),
        "truncated": 0,
    }
    by = {}
    for threat in plan.threats:
        broken = climb(asked, x, y, _white(threat), plan.rungs, seed=plan.seed, block=index)
        by[threat.key] = broken.by.numpy()
        tallies |= {f"outside/{threat.key}": broken.outside, f"not_finite/{threat.key}": broken.not_finite}
    predicted = torch.where(first.isfinite().all(1), first.argmax(1), -1)
    return BlockOutcome(index, predicted.numpy(), by, tallies)


def verdicts(found: Outcomes, plan: Plan, answers: Answers) -> dict[str, str]:
    """Of the checks of `assay.evaluate.soundness`, those that need no gradient; the others are not measured.

    The attacks are tried on the plane with what they are told here: where the model answers labels, with labels.
    """
    told = plan.rungs
    if answers == "labels":
        told = tuple(replace(rung, attack=_OnLabels(attack=rung.attack)) for rung in plan.rungs)
    tallies, device = found.tallies, torch.device("cpu")
    sums = {name: sum(tallies[f"{name}/{threat.key}"] for threat in plan.threats) for name in ("outside", "not_finite")}
    balls = [replace(_white(threat), constraints=None) for threat in plan.threats]
    said = {
        "finite_logits": not tallies["clean_not_finite"] and not sums["not_finite"],
        "attacks_stay_inside": not sums["outside"],
        "two_passes_agree": not tallies["passes_differ"],
        "attack_self_test": all(self_test(told, ball, device) for ball in balls),
    }
    verdicts = {name: "holds" if holds else "misses" for name, holds in said.items()}
    return verdicts | dict.fromkeys(NOT_FOR_BLACK_BOXES, "not_measured")


def _white(threat: ThreatModel) -> ThreatModel:
    """The ball itself: what an attack that asks only moves in, whoever knows what."""
    return replace(threat, knowledge="white-box", query_budget=None)


@dataclass(frozen=True, kw_only=True)
class _OnLabels:
    """An attack that is told the class alone, as a model that answers labels tells it."""

    attack: Any

    def __call__(self, model: nn.Module, *given: Any, **named: Any) -> torch.Tensor:
        found: torch.Tensor = self.attack(_Labels(model).eval(), *given, **named)
        return found


class _Labels(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(x)
