"""A model that can only be asked, block by block: clean, under every threat, and how far to trust its answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from assay.blackbox.predict import Answers, Asked
from assay.estimate import proportion
from assay.evaluate import soundness
from assay.evaluate.blocks import block_count, block_rows
from assay.evaluate.holdout import Holdout
from assay.evaluate.ladder import Broken, climb
from assay.evaluate.measure import Plan
from assay.evaluate.outcomes import STANDS, BlockOutcome, Outcomes
from assay.evaluate.selftest import SLACK, self_test
from assay.progress import track
from assay.threat import ThreatModel

NOT_FOR_BLACK_BOXES = (
    "zero_gradient_share",
    "scale_invariance",
    "gradient_free_not_better",
    "transfer_not_better",
    "holdout_unseen",
)
CHECKED = 32
"""Records, the first, on which the attacks are tried with half of the radius and with the whole box too."""
ON_LABELS = dict.fromkeys(SLACK, 0.15)
"""What attacks that are told the class alone may miss of the budget on a plane, where the exact worst case is known."""

__all__ = ["CHECKED", "ON_LABELS", "ask", "may_ask", "verdicts", "white"]


def may_ask(records: int, plan: Plan, queries: int) -> int:
    """The most queries that a measurement may take: so many for a record and threat, and as many for each check."""
    return queries * len(plan.threats) * (records + 2 * min(records, CHECKED))


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
        broken = climb(asked, x, y, white(threat), plan.rungs, seed=plan.seed, block=index)
        by[threat.key] = broken.by.numpy()
        tallies |= {f"outside/{threat.key}": broken.outside, f"not_finite/{threat.key}": broken.not_finite}
        if index == 0:
            tallies |= _at_other_radii(asked, x[:CHECKED], y[:CHECKED], plan, threat, broken)
    predicted = torch.where(first.isfinite().all(1), first.argmax(1), -1)
    return BlockOutcome(index, predicted.numpy(), by, tallies)


def _at_other_radii(
    asked: Asked, x: torch.Tensor, y: torch.Tensor, plan: Plan, threat: ThreatModel, broken: Broken
) -> dict[str, int]:
    """How many of some records stand: at half of the radius, at the radius, and with the whole box to move in."""
    before, box = asked.queries, plan.curve(white(threat), x[0].numel())[-1]
    near = replace(white(threat), epsilon=threat.epsilon / 2)
    stand = {"whole": int((broken.by[: len(x)] == STANDS).sum())}
    for name, ball in {"half": near, "box": box}.items():
        if ball.norm == "l0" and ball.epsilon < 1:
            continue
        by = climb(asked, x, y, ball, plan.rungs, seed=plan.seed, block=0).by
        stand[name] = int((by == STANDS).sum())
    stood = {f"stand_{name}/{threat.key}": count for name, count in stand.items()}
    return stood | {f"check_queries/{threat.key}": asked.queries - before}


def verdicts(found: Outcomes, y: torch.Tensor, plan: Plan, answers: Answers) -> dict[str, str]:
    """Of the checks of `assay.evaluate.soundness`, those that need no gradient; the others are not measured.

    What holds says that the claim can be believed for an adversary who asks within the budget, and of no other.

    - ``attack_self_test``: on a plane, told what they are told here, the attacks find the exact worst case; where that
      is the class alone, at least 85 % of the budget at which it lies.
    - ``accuracy_falls_with_epsilon``, ``chance_at_whole_box``: on the first `CHECKED` records, asked as often again.
    """
    told = plan.rungs
    if answers == "labels":
        told = tuple(replace(rung, attack=_OnLabels(attack=rung.attack)) for rung in plan.rungs)
    tallies, device = found.tallies, torch.device("cpu")
    sums = {name: sum(tallies[f"{name}/{threat.key}"] for threat in plan.threats) for name in ("outside", "not_finite")}
    balls = [replace(white(threat), constraints=None) for threat in plan.threats]
    slack = ON_LABELS if answers == "labels" else SLACK
    said = {
        "finite_logits": not tallies["clean_not_finite"] and not sums["not_finite"],
        "attacks_stay_inside": not sums["outside"],
        "two_passes_agree": not tallies["passes_differ"],
        "attack_self_test": all(self_test(told, ball, device, slack) for ball in balls),
        "accuracy_falls_with_epsilon": all(_falls(tallies, threat.key) for threat in plan.threats),
        "chance_at_whole_box": all(_chance(tallies, threat.key, y[:CHECKED]) for threat in plan.threats),
    }
    verdicts = {name: "holds" if holds else "misses" for name, holds in said.items()}
    return verdicts | dict.fromkeys(NOT_FOR_BLACK_BOXES, "not_measured")


def _falls(tallies: Counter[str], key: str) -> bool:
    """No more stand at the radius than at half of it, up to 2 % or two."""
    if f"stand_half/{key}" not in tallies:
        return True
    most = tallies[f"stand_half/{key}"] + max(2.0, soundness.TOLERANCE * CHECKED)
    return tallies[f"stand_whole/{key}"] <= most


def _chance(tallies: Counter[str], key: str, y: torch.Tensor) -> bool:
    commonest = int(torch.bincount(y).max()) / len(y)
    return proportion(tallies[f"stand_box/{key}"], len(y)).low <= commonest


def white(threat: ThreatModel) -> ThreatModel:
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
