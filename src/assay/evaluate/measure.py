"""Measure a model block by block: clean, under every threat, and for the soundness of the measurement itself."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from assay import catalog
from assay.attacks.geometry import Attack
from assay.attacks.transfer import Transfer
from assay.evaluate import soundness
from assay.evaluate.blocks import BLOCK_RECORDS, block_count, block_rows
from assay.evaluate.fast import agreeing, exact, fast, pays
from assay.evaluate.ladder import Broken, Rung, climb
from assay.evaluate.outcomes import STANDS, WRONG, BlockOutcome, Example, Ints, Outcomes
from assay.evaluate.probes import Trigger
from assay.evaluate.strength import (
    RESCALED,
    SEARCH,
    TARGETED,
    TRANSFER,
    RandomSearch,
    Rescaled,
    Targeted,
    differentiable,
)
from assay.progress import track
from assay.threads import in_threads
from assay.threat import ThreatModel

EXAMPLES = 6
SHARES = (0.5, 1.0, 2.0)
CURVE_STEPS = 20

__all__ = ["Plan", "measure"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Fields:
        threats: the first is the primary one.
        rungs: the configured attacks, from cheap to dear.
        seed: of every attack.
        triggers: to probe with.
        limit_s: seconds after which no attack is begun; 0 for no limit.
        budget: gradient evaluations that a record may cost under one threat, over all attacks; 0 for no limit.
        bfloat16: attack in bfloat16; what is found counts only where the network itself, in float32, is wrong too.
        block_records: size of a block; small ones where the evaluation may stop after any.
    """

    threats: tuple[ThreatModel, ...]
    rungs: tuple[Rung, ...]
    seed: int = 0
    triggers: tuple[Trigger, ...] = ()
    limit_s: float = 0.0
    budget: float = 0.0
    block_records: int = BLOCK_RECORDS
    bfloat16: bool = False

    @property
    def strongest(self) -> Rung:
        """The dearest configured attack that follows the gradient of one loss, or else the dearest of all."""
        plain = [rung for rung in self.rungs if not (rung.aims or rung.gradient_free)]
        return plain[-1] if plain else self.rungs[-1]

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """The configured attacks, the strongest of them aimed, then three that a masked model does not withstand.

        Where a configured attack aims by itself, the strongest is not aimed once more; where transfer is configured,
        it is that.
        """
        strongest = self.strongest.attack
        aimed = [] if any(rung.aims for rung in self.rungs) else [Rung(TARGETED, Targeted(attack=_whole(strongest)))]
        moved = [] if any(rung.name == TRANSFER for rung in self.rungs) else [Rung(TRANSFER, Transfer())]
        return (
            *self.rungs,
            *aimed,
            Rung(RESCALED, Rescaled(attack=strongest)),
            *moved,
            Rung(SEARCH, RandomSearch()),
        )

    def until(self) -> float:
        """The instant of the monotonic clock at which time runs out, when it begins now."""
        return time.monotonic() + self.limit_s if self.limit_s else math.inf

    @property
    def names(self) -> list[str]:
        """The rungs of the ladder, in order; number 1 is the first."""
        return [rung.name for rung in self.ladder]

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Every attack of the ladder with all of its fields."""
        return {
            rung.name: catalog.settings(rung.attack) | ({"restarts": rung.restarts} if rung.restarts > 1 else {})
            for rung in self.ladder
        }

    def curve(self, threat: ThreatModel, features: int) -> tuple[ThreatModel, ...]:
        """Threat models of growing radius: parts and multiples of epsilon, last the whole box without constraints."""
        box = soundness.box_size(threat, features)
        shares = [share * threat.epsilon for share in SHARES]
        whole = dict.fromkeys(max(1.0, float(int(radius))) for radius in shares)  # of features, each radius once
        radii = [radius for radius in (whole if threat.norm == "l0" else shares) if radius < box]
        return (*(replace(threat, epsilon=radius) for radius in radii), replace(threat, epsilon=box, constraints=None))


def measure(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    plan: Plan,
    *,
    blocks: Iterable[int] | None = None,
    checks: bool = True,
    workers: int = 1,
    until: float | None = None,
) -> Outcomes:
    """Measure a model on some blocks of the records.

    Args:
        model: maps (N, ...) to logits (N, K); in eval mode, parameters frozen.
        x: (N, ...) every record, on the model's device, inside the box.
        y: (N,) int64 the true classes.
        plan: threats, attacks, seed, triggers.
        blocks: which blocks, for one shard of several; all by default.
        checks: probe triggers, draw the curve and check soundness too; a champion is measured without.
        workers: blocks that are attacked at the same time. With one torch thread each, as many as there are cores are
            faster than one block on all cores, and no number depends on how many there are.
        until: the instant of the monotonic clock at which time runs out; by default what the plan says from now.

    Returns:
        What happened to every record of these blocks.
    """
    chosen = sorted(range(block_count(len(x), plan.block_records)) if blocks is None else set(blocks))
    searched = differentiable(fast(model, bfloat16=plan.bfloat16)) if pays(model) else differentiable(model)
    until = plan.until() if until is None else until
    with in_threads(workers) as each:
        done = each(lambda index: _block(searched, x, y, plan, index, checks, until), chosen)
        return Outcomes(tuple(track(done, "attack", len(chosen))))


def _block(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, plan: Plan, index: int, checks: bool, until: float
) -> BlockOutcome:
    rows = block_rows(index, len(x), plan.block_records)
    x, y = x[rows], y[rows]
    searched, model = agreeing(model, x), exact(model)
    tallies: dict[str, int] = {}
    by: dict[str, Ints] = {}
    examples: list[Example] = []
    for threat in plan.threats:
        most = plan.budget or math.inf
        broken = climb(searched, x, y, threat, plan.ladder, seed=plan.seed, block=index, until=until, budget=most)
        by[threat.key] = broken.by.cpu().numpy()
        tallies |= {f"outside/{threat.key}": broken.outside, f"not_finite/{threat.key}": broken.not_finite}
        tallies["truncated"] = tallies.get("truncated", 0) + broken.truncated
        examples += _examples(model, x, y, broken, threat, rows.start)
        if checks and not broken.truncated:
            tallies |= _curve(searched, x, y, plan, threat, index)
    if checks:
        tallies |= soundness.tally(model, x, y)
        for trigger in plan.triggers:
            tallies |= trigger.tally(model, x, y)
    with torch.no_grad():
        logits = model(x)
    predicted = torch.where(logits.isfinite().all(1), logits.argmax(1), -1)
    return BlockOutcome(index, predicted.cpu().numpy(), by, tallies, tuple(examples))


def _curve(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, plan: Plan, threat: ThreatModel, block: int
) -> dict[str, int]:
    """How many records stand against a short run of the strongest attack, for each radius of the curve."""
    strongest: Any = plan.strongest.attack
    short = {"steps": min(strongest.steps, CURVE_STEPS)} if hasattr(strongest, "steps") else {}
    rung = Rung("curve", replace(strongest, **short))
    tallies = {}
    for number, at in enumerate(plan.curve(threat, x[0].numel())):
        broken = climb(model, x, y, at, [rung], seed=plan.seed, block=block)
        tallies[f"curve/{threat.key}/{number}"] = int((broken.by == STANDS).sum())
    return tallies


def _whole(attack: Any) -> Attack:
    """The attack without dropping: what is aimed at one class is not yet known to be broken."""
    return cast(Attack, replace(attack, drop=False)) if hasattr(attack, "drop") else cast(Attack, attack)


def _examples(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, broken: Broken, threat: ThreatModel, start: int
) -> Sequence[Example]:
    """The few records of a block that were turned with the most confidence."""
    fell = torch.nonzero(broken.by > WRONG).flatten()
    if not len(fell):
        return []
    with torch.no_grad():
        share = torch.nan_to_num(model(broken.x_adv[fell]).softmax(1))
    share[torch.arange(len(fell)), y[fell]] = 0
    height, predicted = share.max(1)
    order = torch.argsort(height, descending=True, stable=True)[:EXAMPLES].tolist()
    return [
        Example(
            row=start + int(fell[at]),
            threat=threat.key,
            label=int(y[fell[at]]),
            predicted=int(predicted[at]),
            share=float(height[at]),
            x=x[fell[at]].cpu().numpy(),
            x_adv=broken.x_adv[fell[at]].cpu().numpy(),
        )
        for at in order
    ]
